"""A catalog in memory, things to put into one, and an ear to hear it with.

tests/ports/test_catalog.py holds it to the real one's behaviour.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial

import numpy as np

from pspsearch.contract import Contract, InputShape
from pspsearch.domain import (
    Collection,
    CollectionSettings,
    Commit,
    Delete,
    Generation,
    ImageInfo,
    Item,
    ModelVersion,
    Outcome,
    Row,
    Sequences,
    StoredDescriptor,
    Upsert,
    Written,
)
from pspsearch.errors import AlreadyExists, NotFound

DIMENSION = 4
SETTINGS = CollectionSettings("pspnet")
VERSION = ModelVersion("pspnet", 1, Contract(InputShape(8, 8), DIMENSION, "fp32", "ab" * 32))


def describe(content: bytes) -> StoredDescriptor:
    """A unit vector that depends on the bytes alone."""
    vector = np.frombuffer(hashlib.sha256(content).digest()[:DIMENSION], np.uint8) + 1.0
    return (vector / np.linalg.norm(vector)).astype(np.float16)


def picture(id_: str, content: bytes, attributes: str | None = None, *, kept: bool = True) -> Upsert:
    """An item with an image of these bytes, which need not be an image here."""
    info = ImageInfo("image/jpeg", 40, 30, len(content), hashlib.sha256(content).hexdigest(), kept)
    return Upsert(id_, describe(content), attributes, info, content if kept else None)


@dataclass
class Clock:
    """A moment that passes when a test says so."""

    moment: datetime = field(default_factory=lambda: datetime(2024, 5, 17, 12, 30, 0, 123456, UTC))

    def __call__(self) -> datetime:
        """The moment."""
        return self.moment

    def advance(self, **interval: float) -> None:
        """Lets time pass."""
        self.moment += timedelta(**interval)


@dataclass
class Ear:
    """What a listener heard."""

    commits: list[Commit] = field(default_factory=list[Commit])

    def __call__(self, commit: Commit) -> None:
        """In whichever thread commits."""
        self.commits.append(commit)

    def rows(self, generation: Generation) -> list[Row]:
        """Those that an index must know of by now, ascending; KeyError where one is removed that was not there."""
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
    descriptor: StoredDescriptor
    content: bytes | None

    def row(self) -> Row:
        return Row(self.item.sequence, self.item.key, self.item.id, self.item.attributes, self.descriptor)


@dataclass(slots=True)
class _Contents:
    collection: Collection
    generation: Generation
    held: dict[str, _Held] = field(default_factory=dict[str, _Held])
    answers: dict[str, tuple[datetime, list[Written]]] = field(
        default_factory=dict[str, tuple[datetime, list[Written]]]
    )


class MemoryCatalog:
    """Fills the port `Catalog` until the process ends."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._contents: dict[int, _Contents] = {}
        self._collection_keys, self._item_keys, self._sequences = (itertools.count(1) for _ in range(3))
        self._listener: Callable[[Commit], None] | None = None

    async def collections(self) -> list[tuple[Collection, Generation]]:
        """By name."""
        pairs = [(contents.collection, contents.generation) for contents in self._contents.values()]
        return sorted(pairs, key=lambda pair: pair[0].name)

    async def create_collection(
        self, name: str, settings: CollectionSettings, version: ModelVersion
    ) -> tuple[Collection, Generation]:
        """AlreadyExists where the name is taken."""
        if any(contents.collection.name == name for contents in self._contents.values()):
            raise AlreadyExists(f"there is a collection {name!r} already")
        key = next(self._collection_keys)
        contract = version.contract
        collection = Collection(key, name, settings, self._now())
        generation = Generation(key, key, version.model, version.version, contract.fingerprint, contract.dimension)
        self._contents[key] = _Contents(collection, generation)
        return collection, generation

    async def delete_collection(self, collection: int) -> int:
        """NotFound where it is gone."""
        if collection not in self._contents:
            raise NotFound("the collection has been deleted already")
        return len(self._contents.pop(collection).held)

    async def write(
        self, generation: Generation, writes: Sequence[Upsert | Delete], *, request_id: str = ""
    ) -> list[Written]:
        """NotFound where the collection is gone."""
        contents = self._contents.get(generation.collection)
        if contents is None:
            raise NotFound("the collection has been deleted")
        asked, answer = contents.answers.get(request_id, (datetime.min.replace(tzinfo=UTC), []))
        if self._now() - asked < timedelta(days=1):
            return answer
        before = {row.sequence for row in self._rows(generation.collection)}
        answer = [self._write(contents, write) for write in writes]
        if request_id:
            contents.answers[request_id] = (self._now(), answer)
        after = {row.sequence: row for row in self._rows(generation.collection)}
        added = tuple(row for sequence, row in after.items() if sequence not in before)
        removed = tuple(before - after.keys())
        if self._listener is not None and (added or removed):
            self._listener(Commit(generation.collection, generation.key, added, removed))
        return answer

    def listen(self, listener: Callable[[Commit], None]) -> None:
        """Called within `write`."""
        self._listener = listener

    async def items(self, collection: int, ids: Sequence[str]) -> dict[str, Item]:
        """Those that there are."""
        held = self._held(collection)
        return {id_: held[id_].item for id_ in ids if id_ in held}

    async def items_by_key(self, collection: int, keys: Sequence[int]) -> list[Item]:
        """By ascending key."""
        wanted = set(keys)
        return [item for item in await self.page(collection, 0, len(self._held(collection))) if item.key in wanted]

    async def page(self, collection: int, after_key: int, count: int) -> list[Item]:
        """By ascending key."""
        items = sorted((held.item for held in self._held(collection).values()), key=lambda item: item.key)
        return [item for item in items if item.key > after_key][:count]

    async def attributes(self, collection: int, sequences: Sequence[int]) -> dict[int, str]:
        """Of the rows that are current."""
        items = [held.item for held in self._held(collection).values()]
        return {item.sequence: item.attributes for item in items if item.sequence in sequences}

    async def image(self, collection: int, id: str) -> bytes | None:  # noqa: A002 - the domain's word
        """Where it is kept."""
        held = self._held(collection).get(id)
        return None if held is None else held.content

    async def descriptor(self, generation: Generation, id: str) -> StoredDescriptor | None:  # noqa: A002
        """None where there is no item."""
        held = self._held(generation.collection).get(id)
        return None if held is None else held.descriptor

    def rows_of(self, generation: Generation) -> "MemoryRows":
        """As they are when they are read."""
        return MemoryRows(partial(self._rows, generation.collection))

    def size_bytes(self) -> int:
        """Of the kept images."""
        held = (held for contents in self._contents.values() for held in contents.held.values())
        return sum(len(held.content or b"") for held in held)

    async def close(self) -> None:
        """Nothing was begun."""

    def _held(self, collection: int) -> dict[str, _Held]:
        contents = self._contents.get(collection)
        return {} if contents is None else contents.held

    def _rows(self, collection: int) -> list[Row]:
        return sorted((held.row() for held in self._held(collection).values()), key=lambda row: row.sequence)

    def _write(self, contents: _Contents, write: Upsert | Delete) -> Written:
        held = contents.held.get(write.id)
        if isinstance(write, Delete):
            if held is None:
                return Written(Outcome.ABSENT, 0)
            del contents.held[write.id]
            return Written(Outcome.DELETED, next(self._sequences))
        if write.descriptor is None and (held is None or not _has_image(held, write.info)):
            return Written(Outcome.ABSENT, 0)
        if held is not None and _is_same(held, write):
            return Written(Outcome.UNCHANGED, held.item.sequence)
        contents.held[write.id] = changed = self._change(held, write)
        return Written(Outcome.CREATED if held is None else Outcome.REPLACED, changed.item.sequence)

    def _change(self, held: _Held | None, upsert: Upsert) -> _Held:
        now, sequence = self._now(), next(self._sequences)
        if held is None:
            item = Item(next(self._item_keys), upsert.id, "{}", None, now, now, sequence)
        else:
            item = replace(held.item, updated=now, sequence=sequence)
        if upsert.attributes is not None:
            item = replace(item, attributes=upsert.attributes)
        if upsert.descriptor is None:
            assert held is not None
            return _Held(item, held.descriptor, held.content)
        info = upsert.info and replace(upsert.info, kept=upsert.image is not None)
        return _Held(replace(item, image=info), upsert.descriptor, upsert.image)


class MemoryRows:
    """Fills the port `RowSource`."""

    def __init__(self, rows: Callable[[], list[Row]]) -> None:
        self._rows = rows

    def sequences(self) -> Sequences:
        """Ascending."""
        return np.array([row.sequence for row in self._rows()], np.int64)

    def after(self, sequence: int) -> Iterator[Row]:
        """As of the call."""
        return iter([row for row in self._rows() if row.sequence > sequence])


def _has_image(held: _Held, wanted: ImageInfo | None) -> bool:
    return wanted is None or (held.item.image is not None and held.item.image.sha256 == wanted.sha256)


def _is_same(held: _Held, upsert: Upsert) -> bool:
    if upsert.attributes not in (None, held.item.attributes):
        return False
    if upsert.descriptor is None:
        return True
    if upsert.info is None:
        return held.item.image is None and np.array_equal(held.descriptor, upsert.descriptor)
    same_bytes = held.item.image is not None and held.item.image.sha256 == upsert.info.sha256
    return same_bytes and (held.content is None) == (upsert.image is None)


def plain(rows: Iterable[Row]) -> list[tuple[int, int, str, str, bytes]]:
    """Rows that can be compared."""
    return [(row.sequence, row.key, row.id, row.attributes, row.descriptor.tobytes()) for row in rows]
