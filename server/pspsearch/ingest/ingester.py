"""Writes: from encoded images to acknowledged items."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pspsearch.call import Call
from pspsearch.describe.queries import QueryDescriber, check_descriptor
from pspsearch.domain import Delete, Generation, ImageInfo, Item, Outcome, StoredDescriptor, Upsert, Urgency, Written
from pspsearch.errors import InvalidRequest, ModelChanged, NotFound, PspsearchError, bare
from pspsearch.filters import Filter
from pspsearch.images.pixels import ImageLimits, read_facts
from pspsearch.ingest.deletion import delete_matching
from pspsearch.ingest.request import (
    MAX_DELETES,
    MAX_ITEMS,
    Acknowledgement,
    ItemInput,
    check_request_id,
)
from pspsearch.live.collections import Collections
from pspsearch.live.live import Live
from pspsearch.memory import MemoryBound
from pspsearch.ports import WritableItems
from pspsearch.query import DescriptorQuery


@dataclass(frozen=True, slots=True)
class _Stored:
    """What an upsert stores; it has no descriptor if only the attributes change."""

    descriptor: StoredDescriptor | None = None
    info: ImageInfo | None = None
    image: bytes | None = None
    others: Mapping[int, StoredDescriptor] = field(default_factory=dict[int, StoredDescriptor])


class Ingester:
    """Adds, changes and deletes items. Only tasks of one event loop may use it."""

    def __init__(
        self,
        collections: Collections,
        catalog: WritableItems,
        describer: QueryDescriber,
        limits: ImageLimits,
        memory: MemoryBound,
    ) -> None:
        self._memory = memory
        self._collections = collections
        self._catalog = catalog
        self._describer = describer
        self._limits = limits

    async def upsert(
        self, collection: str, items: Sequence[ItemInput | PspsearchError], call: Call, *, request_id: str = ""
    ) -> list[Acknowledgement]:
        """Adds or replaces items. If two have the same id, the later wins. One bad item does not fail the others.

        An item that is already an error is acknowledged with it.

        An error that may pass (Triton away, a full queue, no memory) is raised, and then nothing was written.
        IndexBehind means that the items were written, but searches do not find them yet.
        """
        if not 1 <= len(items) <= MAX_ITEMS:
            raise InvalidRequest(f"an upsert has 1 to {MAX_ITEMS} items, not {len(items)}")
        check_request_id(request_id)
        self._memory.check()
        call.urgency = Urgency.WRITE
        try:
            return await self._upsert(collection, items, call, request_id)
        except ModelChanged:  # the model changed between describing and writing
            return await self._upsert(collection, items, call, request_id)

    async def _upsert(
        self, collection: str, items: Sequence[ItemInput | PspsearchError], call: Call, request_id: str
    ) -> list[Acknowledgement]:
        async with self._collections.use(collection) as live:
            good = [item for item in items if isinstance(item, ItemInput)]
            known = await self._catalog.items(live.collection.key, _named_once(good))
            given = await self._put_in(live, good, known, call, request_id)
            lost = [number for number, one in enumerate(given) if _was_lost(good[number], one)]
            if lost:
                # These get a request id of their own. Else a later retry of the call would write them anew, over what
                # came since.
                name = _digest("again", request_id) if request_id else ""
                again = await self._put_in(live, [good[number] for number in lost], {}, call, name)
                for number, one in zip(lost, again, strict=True):
                    given[number] = one
            told = iter(given)
            return [
                Acknowledgement("", error=item) if isinstance(item, PspsearchError) else next(told) for item in items
            ]

    async def delete(self, collection: str, ids: Sequence[str], *, request_id: str = "") -> tuple[int, int]:
        """Deletes items. Returns how many existed, and the sequence of the last change."""
        if not 1 <= len(ids) <= MAX_DELETES:
            raise InvalidRequest(f"a deletion names 1 to {MAX_DELETES} ids, not {len(ids)}")
        check_request_id(request_id)
        async with self._collections.use(collection) as live:
            writes, asked = [Delete(id_) for id_ in ids], _digest("delete", *ids)
            answers = await self._catalog.write(live.generation, writes, request_id=request_id, asked=asked)
            live.index.check_current()
            deleted = [answer for answer in answers if answer.outcome is Outcome.DELETED]
            return len(deleted), max((answer.sequence for answer in answers), default=0)

    async def delete_matching(self, collection: str, where: Filter, *, request_id: str = "") -> tuple[int, int]:
        """Deletes every item that matches the filter, in portions. Returns as `delete` does."""
        check_request_id(request_id)
        async with self._collections.use(collection) as live:
            asked = _digest("delete where", where.text)
            done = await delete_matching(self._catalog, live, where, request_id=request_id, asked=asked)
            live.index.check_current()
            return done.deleted, done.sequence

    async def _put_in(
        self, live: Live, items: Sequence[ItemInput], known: Mapping[str, Item], call: Call, request_id: str
    ) -> list[Acknowledgement]:
        """Writes the items. An image that its `known` item already has is not described again."""
        stored = await self._store(live, items, known, call)
        writes = [
            Upsert(item.id, one.descriptor, item.attributes, one.info, one.image, one.others)
            for item, one in zip(items, stored, strict=True)
            if isinstance(one, _Stored)
        ]
        answers: Sequence[Written] = ()
        if writes:
            asked = _digest("put", *(part for write in writes for part in _asked(write))) if request_id else ""
            answers = await self._catalog.write(live.generation, writes, request_id=request_id, asked=asked)
            for opened in self._collections.beside(live.collection):  # they may have changed since the describing
                if any(_lacks(write, live.generation, opened.generation) for write in writes):
                    opened.lags.set()
            live.index.check_current()
        written = iter(answers)
        return [
            _acknowledge(item, next(written)) if isinstance(one, _Stored) else Acknowledgement(item.id, error=one)
            for item, one in zip(items, stored, strict=True)
        ]

    async def _store(
        self, live: Live, items: Sequence[ItemInput], known: Mapping[str, Item], call: Call
    ) -> list[_Stored | PspsearchError]:
        """Returns what to store for each item, or its error."""
        kept = live.collection.settings.keep_images
        sources = [item.source for item in items]
        infos = await asyncio.to_thread(lambda: [_read_info(source, self._limits, kept=kept) for source in sources])
        new = [
            isinstance(info, ImageInfo) and not (_same(known.get(item.id), info) and (kept or not live.beside))
            for item, info in zip(items, infos, strict=True)
        ]  # with several generations, only sending the image again fills a descriptor that an item lacks
        images = [source for source, is_new in zip(sources, new, strict=True) if is_new and isinstance(source, bytes)]
        described = iter(await self._describer.describe_everywhere(live, images, call))
        stored: list[_Stored | PspsearchError] = []
        for source, info, is_new in zip(sources, infos, new, strict=True):
            if isinstance(info, InvalidRequest):
                stored.append(info)
            elif isinstance(source, DescriptorQuery):
                stored.append(_given(live, source))
            elif isinstance(source, bytes) and is_new:
                descriptor, others = next(described)
                if isinstance(descriptor, PspsearchError):
                    stored.append(descriptor)
                else:
                    beside = {key: one.astype(np.float16) for key, one in others.items()}
                    stored.append(_Stored(descriptor.astype(np.float16), info, source if kept else None, beside))
            else:
                stored.append(_Stored(info=info))
        return stored


def _lacks(write: Upsert, active: Generation, generation: Generation) -> bool:
    """Whether the write's image was described for the generation active then, but not for this one."""
    has_image = write.descriptor is not None and write.info is not None
    return has_image and generation.key not in (active.key, *write.others)


def _asked(write: Upsert) -> tuple[str, str, str]:
    """Returns what the caller sent, by which a retry is recognised.

    Uses the image, because describing it again may give a slightly different descriptor.
    """
    given = "" if write.descriptor is None else hashlib.sha256(write.descriptor.tobytes()).hexdigest()
    return write.id, write.attributes or "", write.info.sha256 if write.info else given


def _digest(*parts: str) -> str:
    """Hashes the texts, each with its length, so that no two lists hash the same text."""
    return hashlib.sha256("".join(f"{len(part)}:{part}" for part in parts).encode(errors="replace")).hexdigest()


def _named_once(items: Sequence[ItemInput]) -> list[str]:
    counts = Counter(item.id for item in items)
    return [id_ for id_, count in counts.items() if count == 1]


def _was_lost(item: ItemInput, given: Acknowledgement) -> bool:
    """Whether the item's image was skipped as known, but the stored item no longer had all of it at the write."""
    return item.source is not None and isinstance(given.error, NotFound)


def _read_info(source: object, limits: ImageLimits, *, kept: bool) -> ImageInfo | InvalidRequest | None:
    """Reads an image's facts before it is decoded; None if there is no image."""
    if not isinstance(source, bytes):
        return None
    try:
        header = read_facts(source, limits)
    except InvalidRequest as error:
        return bare(error)
    width_px, height_px = header.upright
    digest = hashlib.sha256(source).hexdigest()
    return ImageInfo(f"image/{header.format.lower()}", width_px, height_px, len(source), digest, kept)


def _same(item: Item | None, fact: ImageInfo) -> bool:
    return item is not None and item.image is not None and item.image.sha256 == fact.sha256


def _given(live: Live, query: DescriptorQuery) -> _Stored | PspsearchError:
    try:
        return _Stored(check_descriptor(live, query).astype(np.float16))
    except PspsearchError as error:
        return bare(error)


def _acknowledge(item: ItemInput, written: Written) -> Acknowledgement:
    if written.outcome is Outcome.ABSENT:
        return Acknowledgement(item.id, error=NotFound(f"there is no item {item.id!r} whose attributes could change"))
    return Acknowledgement(item.id, written.outcome, written.sequence)
