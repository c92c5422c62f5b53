"""A catalog in memory, things to put into one, and an ear that hears its commits.

tests/ports/test_catalog.py checks that it behaves as the real one does.
"""

import asyncio
import contextlib
import hashlib
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import numpy as np

from pspsearch.domain import (
    Collection,
    CollectionSettings,
    Commit,
    Delete,
    Deletion,
    Filling,
    Generation,
    GenerationRecord,
    GenerationState,
    ImageInfo,
    Item,
    Lacking,
    ModelVersion,
    Outcome,
    Row,
    Sequences,
    StoredDescriptor,
    Upsert,
    Written,
)
from pspsearch.errors import AlreadyExists, InvalidRequest, ModelChanged, NotFound, PspsearchError
from pspsearch.model.contract import Contract, InputShape
from pspsearch.ports import Listener

DIMENSION = 4
SETTINGS = CollectionSettings("pspnet")
VERSION = ModelVersion("pspnet", 1, Contract(InputShape(8, 8), DIMENSION, "fp32", "ab" * 32))


def describe(content: bytes) -> StoredDescriptor:
    """Returns a unit vector that depends on the bytes alone."""
    vector = np.frombuffer(hashlib.sha256(content).digest()[:DIMENSION], np.uint8) + 1.0
    return (vector / np.linalg.norm(vector)).astype(np.float16)


def picture(id_: str, content: bytes, attributes: str | None = None, *, kept: bool = True) -> Upsert:
    """Returns an item with an image of these bytes, which need not be an image here."""
    info = ImageInfo("image/jpeg", 40, 30, len(content), hashlib.sha256(content).hexdigest(), kept)
    return Upsert(id_, describe(content), attributes, info, content if kept else None)


@dataclass
class Clock:
    """A clock that moves only when a test says so."""

    moment: datetime = field(default_factory=lambda: datetime(2024, 5, 17, 12, 30, 0, 123456, UTC))

    def __call__(self) -> datetime:
        """Returns the present moment."""
        return self.moment

    def advance(self, **interval: float) -> None:
        """Lets time pass."""
        self.moment += timedelta(**interval)


@dataclass
class Ear:
    """Keeps what a listener heard."""

    commits: list[Commit] = field(default_factory=list[Commit])

    def __call__(self, commit: Commit) -> None:
        """Called in whichever thread commits."""
        self.commits.append(commit)

    def rows(self, generation: Generation) -> list[Row]:
        """Returns the rows that an index must know by now, ascending; KeyError if a removed row was not there."""
        rows: dict[int, Row] = {}
        for commit in self.commits:
            if commit.generation == generation.key:
                for sequence in commit.removed:
                    del rows[sequence]
                rows |= {row.sequence: row for row in commit.added}
        return list(rows.values())


@dataclass(slots=True)
class _Held:
    item: Item
    descriptors: dict[int, StoredDescriptor]
    """The descriptors by the key of their generation."""
    content: bytes | None

    def row(self, generation: int) -> Row:
        item = self.item
        return Row(item.sequence, item.key, item.id, item.attributes, self.descriptors[generation])


@dataclass(slots=True)
class _Contents:
    collection: Collection
    records: dict[int, GenerationRecord] = field(default_factory=dict[int, GenerationRecord])
    held: dict[str, _Held] = field(default_factory=dict[str, _Held])
    answers: dict[str, tuple[datetime, str, Any]] = field(default_factory=dict[str, tuple[datetime, str, Any]])

    def living(self) -> dict[int, Generation]:
        """The generations that writes reach."""
        ended = (GenerationState.RETIRED, GenerationState.FAILED)
        return {key: record.generation for key, record in self.records.items() if record.state not in ended}

    def find(self, state: GenerationState) -> int:
        """Returns the key of the generation in that state, or 0 if there is none."""
        return next((key for key, record in self.records.items() if record.state is state), 0)

    def rows(self) -> dict[int, dict[int, Row]]:
        """Returns the rows of every living generation, by sequence, ascending."""
        held = sorted(self.held.values(), key=lambda one: one.item.sequence)
        return {
            key: {one.item.sequence: one.row(key) for one in held if key in one.descriptors} for key in self.living()
        }


class MemoryCatalog:
    """Implements the port `Catalog` in memory."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._contents: dict[int, _Contents] = {}
        self._collection_keys, self._generation_keys, self._item_keys = (itertools.count(1) for _ in range(3))
        self._last = 0
        self._listener: Listener | None = None
        self._unseen: list[Future[None]] = []

    async def collections(self) -> list[tuple[Collection, Generation]]:
        """See the port."""
        pairs = [
            (contents.collection, contents.living()[contents.find(GenerationState.ACTIVE)])
            for contents in self._contents.values()
        ]
        return sorted(pairs, key=lambda pair: pair[0].name)

    async def create_collection(
        self, name: str, settings: CollectionSettings, version: ModelVersion
    ) -> tuple[Collection, Generation]:
        """See the port."""
        if any(contents.collection.name == name for contents in self._contents.values()):
            raise AlreadyExists(f"there is a collection {name!r} already")
        key = next(self._collection_keys)
        collection = Collection(key, name, settings, self._now())
        self._contents[key] = _Contents(collection)
        return collection, self._add_generation(key, version, GenerationState.ACTIVE, "{}")

    async def delete_collection(self, collection: int) -> int:
        """See the port."""
        if collection not in self._contents:
            raise NotFound("the collection has been deleted already")
        return len(self._contents.pop(collection).held)

    async def set_follows(self, collection: int, *, follows: bool) -> None:
        """See the port."""
        contents = self._contents.get(collection)
        if contents is None:
            raise NotFound("the collection has been deleted")
        contents.collection = replace(contents.collection, follows=follows)

    async def write(
        self, generation: Generation, writes: Sequence[Upsert | Delete], *, request_id: str = "", asked: str = ""
    ) -> list[Written]:
        """See the port."""
        contents = self._contents.get(generation.collection)
        if contents is None:
            raise NotFound("the collection has been deleted")
        earlier = self._recall(contents, request_id, asked)
        if earlier is not None:
            await self._until_seen()
            return earlier
        active = contents.find(GenerationState.ACTIVE)
        described = (one for one in writes if isinstance(one, Upsert) and one.descriptor is not None)
        if active != generation.key and any(active not in one.others for one in described):
            raise ModelChanged("the collection's model version changed while the items were described")
        with self._telling(contents):
            answer = [self._write(contents, generation.key, write) for write in writes]
        if request_id:
            contents.answers[request_id] = (self._now(), asked, answer)
        await self._until_seen()
        return answer

    async def deletion(self, generation: Generation, request_id: str, asked: str) -> Deletion | None:
        """See the port."""
        await self._until_seen()
        contents = self._contents.get(generation.collection)
        return None if contents is None else self._recall(contents, request_id, asked)

    async def delete_portion(
        self,
        generation: Generation,
        deletes: Sequence[Delete],
        so_far: Deletion,
        *,
        is_last: bool,
        request_id: str = "",
        asked: str = "",
    ) -> Deletion:
        """See the port."""
        contents = self._contents.get(generation.collection)
        if contents is None:
            raise NotFound("the collection has been deleted")
        so_far = self._recall(contents, request_id, asked) or so_far
        if so_far.is_done:
            return so_far
        meant = [one for one in deletes if one.key is None or one.key <= so_far.last_key]
        taken = [one for one in await self.write(generation, meant) if one.outcome is Outcome.DELETED]
        last = max((one.sequence for one in taken), default=so_far.sequence)
        now = Deletion(so_far.last_key, so_far.deleted + len(taken), last, is_last)
        if request_id:
            contents.answers[request_id] = (self._now(), asked, now)
        return now

    async def generations(self, collection: int) -> list[GenerationRecord]:
        """See the port."""
        contents = self._contents.get(collection)
        return [] if contents is None else list(contents.records.values())

    async def begin_generation(self, collection: int, version: ModelVersion, details: str) -> Generation:
        """See the port."""
        contents = self._contents.get(collection)
        if contents is None:
            raise NotFound("the collection has been deleted")
        if contents.find(GenerationState.BUILDING):
            raise AlreadyExists("the collection has a generation already that is not active yet")
        return self._add_generation(collection, version, GenerationState.BUILDING, details)

    async def promote_generation(
        self, generation: Generation, since: int, details: str, *, lacking: bool = False
    ) -> bool:
        """See the port. It looks at all items."""
        contents = self._living_contents(generation)
        items = [held.item for held in contents.held.values() if generation.key not in held.descriptors]
        if not lacking and any(item.image and item.image.kept and item.sequence > since for item in items):
            return False
        active, kept = contents.find(GenerationState.ACTIVE), contents.find(GenerationState.KEPT)
        if kept not in (0, generation.key):
            self._change(contents, kept, GenerationState.RETIRED)
        if active != generation.key:
            self._change(contents, active, GenerationState.KEPT)
            self._change(contents, generation.key, GenerationState.ACTIVE)
        await self.note_generation(generation, details)
        await self._until_seen()
        return True

    async def end_generation(self, generation: Generation, state: GenerationState, details: str) -> None:
        """See the port."""
        contents = self._contents.get(generation.collection)
        if contents is None or contents.records[generation.key].state not in (
            GenerationState.BUILDING,
            GenerationState.KEPT,
        ):
            raise NotFound(f"the generation {generation.key} is neither being built nor kept")
        self._change(contents, generation.key, state)
        await self.note_generation(generation, details)

    async def note_generation(self, generation: Generation, details: str) -> None:
        """See the port."""
        contents = self._contents.get(generation.collection)
        if contents is not None:
            contents.records[generation.key] = replace(contents.records[generation.key], details=details)

    async def fill(self, generation: Generation, filled: Sequence[Filling], *, renew: bool) -> int:
        """See the port. It fills in one item after another."""
        contents = self._living_contents(generation)
        count = 0
        for one in filled:
            held = next((held for held in contents.held.values() if held.item.key == one.key), None)
            if held is None or generation.key in held.descriptors:
                continue
            if held.item.image is None or held.item.image.sha256 != one.sha256:
                continue
            count += 1
            if renew:
                with self._telling(contents):
                    held.item = replace(held.item, sequence=self._next_sequence())
                    held.descriptors[generation.key] = one.descriptor
            else:
                held.descriptors[generation.key] = one.descriptor
        await self._until_seen()
        return count

    async def lacking(self, generation: Generation, after_key: int, count: int) -> list[Item]:
        """See the port."""
        held = self._held(generation.collection).values()
        items = [one.item for one in held if generation.key not in one.descriptors and one.item.key > after_key]
        return sorted(items, key=lambda item: item.key)[:count]

    async def count_lacking(self, generation: Generation) -> Lacking:
        """See the port."""
        items = await self.lacking(generation, 0, len(self._held(generation.collection)))
        with_image = sum(item.image is not None and item.image.kept for item in items)
        return Lacking(with_image, len(items) - with_image, self._last)

    def listen(self, listener: Listener) -> None:
        """See the port. The listener is called within `write`."""
        self._listener = listener

    async def items(self, collection: int, ids: Sequence[str]) -> dict[str, Item]:
        """See the port."""
        held = self._held(collection)
        return {id_: held[id_].item for id_ in ids if id_ in held}

    async def items_by_key(self, collection: int, keys: Sequence[int]) -> list[Item]:
        """See the port."""
        wanted = set(keys)
        return [item for item in await self.page(collection, 0, len(self._held(collection))) if item.key in wanted]

    async def page(self, collection: int, after_key: int, count: int) -> list[Item]:
        """See the port."""
        items = sorted((held.item for held in self._held(collection).values()), key=lambda item: item.key)
        return [item for item in items if item.key > after_key][:count]

    async def attributes(self, collection: int, sequences: Sequence[int]) -> dict[int, str]:
        """See the port."""
        items = [held.item for held in self._held(collection).values()]
        return {item.sequence: item.attributes for item in items if item.sequence in sequences}

    async def image(self, collection: int, id: str) -> bytes | None:  # noqa: A002 - the domain's word
        """See the port."""
        held = self._held(collection).get(id)
        return None if held is None else held.content

    async def descriptor(self, generation: Generation, id: str) -> StoredDescriptor | None:  # noqa: A002
        """See the port."""
        held = self._held(generation.collection).get(id)
        return None if held is None else held.descriptors.get(generation.key)

    def rows_of(self, generation: Generation) -> "MemoryRows":
        """See the port. The rows are read when they are asked for."""
        return MemoryRows(partial(self._rows, generation), lambda: self._last)

    async def failed(self) -> PspsearchError:
        """Waits for ever, because memory does not fail."""
        await asyncio.Event().wait()
        raise AssertionError

    def size_bytes(self) -> int:
        """The size of the kept images."""
        held = (held for contents in self._contents.values() for held in contents.held.values())
        return sum(len(held.content or b"") for held in held)

    async def close(self) -> None:
        """Does nothing, because no write is ever under way."""

    async def _until_seen(self) -> None:
        """Waits until the listener has seen everything that it heard until now."""
        self._unseen = [one for one in self._unseen if not one.done()]
        for seen in tuple(self._unseen):
            await asyncio.shield(asyncio.wrap_future(seen))

    def _recall(self, contents: _Contents, request_id: str, asked: str) -> Any:
        """Returns the answer given under the request id within a day, or None."""
        then, earlier, told = contents.answers.get(request_id, (datetime.min.replace(tzinfo=UTC), "", None))
        if self._now() - then >= timedelta(days=1):
            return None
        if earlier != asked:
            raise InvalidRequest(f"the request_id {request_id!r} was used for another call")
        return told

    def _held(self, collection: int) -> dict[str, _Held]:
        contents = self._contents.get(collection)
        return {} if contents is None else contents.held

    def _rows(self, generation: Generation) -> list[Row]:
        contents = self._contents.get(generation.collection)
        return [] if contents is None else list(contents.rows().get(generation.key, {}).values())

    def _living_contents(self, generation: Generation) -> _Contents:
        contents = self._contents.get(generation.collection)
        if contents is None or generation.key not in contents.living():
            raise NotFound(f"the generation {generation.key} has ended")
        return contents

    def _add_generation(
        self, collection: int, version: ModelVersion, state: GenerationState, details: str
    ) -> Generation:
        key, contract, now = next(self._generation_keys), version.contract, self._now()
        space = (version.model, version.version, contract.fingerprint, contract.dimension)
        record = GenerationRecord(Generation(key, collection, *space), state, details, now, now)
        self._contents[collection].records[key] = record
        return record.generation

    def _change(self, contents: _Contents, key: int, state: GenerationState) -> None:
        contents.records[key] = replace(contents.records[key], state=state, changed=self._now())

    def _next_sequence(self) -> int:
        self._last += 1
        return self._last

    @contextlib.contextmanager
    def _telling(self, contents: _Contents) -> Generator[None]:
        """Tells the listener how the block changed the rows."""
        before = contents.rows()
        yield
        for key, rows in contents.rows().items():
            added = tuple(row for sequence, row in rows.items() if sequence not in before[key])
            removed = tuple(before[key].keys() - rows.keys())
            if self._listener is not None and (added or removed):
                seen = self._listener(Commit(contents.collection.key, key, added, removed))
                self._unseen += [] if seen is None else [seen]

    def _write(self, contents: _Contents, generation: int, write: Upsert | Delete) -> Written:
        held = contents.held.get(write.id)
        if isinstance(write, Delete):
            if held is None or not _is_meant(held.item, write):
                return Written(Outcome.ABSENT, 0)
            del contents.held[write.id]
            return Written(Outcome.DELETED, self._next_sequence())
        active = contents.find(GenerationState.ACTIVE)
        if write.descriptor is None and (held is None or not _has_image(held, write.info, active)):
            return Written(Outcome.ABSENT, 0)
        descriptors: dict[int, StoredDescriptor] = {}
        if write.descriptor is not None:
            given = {generation: write.descriptor, **write.others}
            descriptors = {key: one for key, one in given.items() if key in contents.living()}
        if held is not None and _is_same(held, write, descriptors):
            if descriptors.keys() - held.descriptors.keys():
                held.item = replace(held.item, sequence=self._next_sequence())
                held.descriptors = descriptors | held.descriptors
            return Written(Outcome.UNCHANGED, held.item.sequence)
        contents.held[write.id] = changed = self._put(held, write, descriptors)
        return Written(Outcome.CREATED if held is None else Outcome.REPLACED, changed.item.sequence)

    def _put(self, held: _Held | None, upsert: Upsert, descriptors: dict[int, StoredDescriptor]) -> _Held:
        now, sequence = self._now(), self._next_sequence()
        if held is None:
            item = Item(next(self._item_keys), upsert.id, "{}", None, now, now, sequence)
        else:
            item = replace(held.item, updated=now, sequence=sequence)
        if upsert.attributes is not None:
            item = replace(item, attributes=upsert.attributes)
        if upsert.descriptor is None:
            assert held is not None
            return _Held(item, held.descriptors, held.content)
        info = upsert.info and replace(upsert.info, kept=upsert.image is not None)
        return _Held(replace(item, image=info), descriptors, upsert.image)


class MemoryRows:
    """Implements the port `RowSource`."""

    def __init__(self, rows: Callable[[], list[Row]], last_change: Callable[[], int]) -> None:
        self._rows = rows
        self._last_change = last_change

    def last_change(self) -> int:
        """See the port."""
        return self._last_change()

    def sequences(self) -> Sequences:
        """See the port."""
        return np.array([row.sequence for row in self._rows()], np.int64)

    def after(self, sequence: int) -> Iterator[Row]:
        """See the port."""
        return iter([row for row in self._rows() if row.sequence > sequence])


def _has_image(held: _Held, wanted: ImageInfo | None, generation: int) -> bool:
    if wanted is None:
        return True
    if held.item.image is None or generation not in held.descriptors:
        return False
    return held.item.image.sha256 == wanted.sha256 and held.item.image.kept >= wanted.kept


def _is_meant(item: Item, delete: Delete) -> bool:
    if delete.key not in (None, item.key):
        return False
    return delete.still is None or item.sequence == delete.sequence or delete.still(item.attributes)


def _is_same(held: _Held, upsert: Upsert, descriptors: Mapping[int, StoredDescriptor]) -> bool:
    if upsert.attributes not in (None, held.item.attributes):
        return False
    if upsert.descriptor is None:
        return True
    if upsert.info is None:
        return held.item.image is None and all(
            key in held.descriptors and np.array_equal(held.descriptors[key], one) for key, one in descriptors.items()
        )
    same_bytes = held.item.image is not None and held.item.image.sha256 == upsert.info.sha256
    return same_bytes and (held.content is None) == (upsert.image is None)


def plain(rows: Iterable[Row]) -> list[tuple[int, int, str, str, bytes]]:
    """Returns the rows in a form that can be compared."""
    return [(row.sequence, row.key, row.id, row.attributes, row.descriptor.tobytes()) for row in rows]
