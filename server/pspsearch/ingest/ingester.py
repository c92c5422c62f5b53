"""Writes: from encoded images to acknowledged items."""

import asyncio
import hashlib
from collections.abc import Sequence

import numpy as np

from pspsearch.domain import Delete, ImageInfo, Item, Outcome, StoredDescriptor, Upsert, Written
from pspsearch.errors import InvalidRequest, NotFound, PspsearchError
from pspsearch.filters import Filter
from pspsearch.images import ImageLimits, read_facts
from pspsearch.ingest.request import (
    MAX_DELETES,
    MAX_ITEMS,
    Acknowledgement,
    ItemInput,
    check_request_id,
)
from pspsearch.ports import Catalog
from pspsearch.search.call import Call
from pspsearch.search.collections import Collections, Live
from pspsearch.search.describing import QueryDescriber, check_point
from pspsearch.search.query import DescriptorQuery

_Stored = tuple[StoredDescriptor | None, ImageInfo | None, bytes | None]
"""What an upsert stores: the descriptor, what the image is, its bytes."""


class Ingester:
    """Changes collections; for the tasks of one event loop."""

    def __init__(
        self, collections: Collections, catalog: Catalog, describer: QueryDescriber, limits: ImageLimits
    ) -> None:
        self._collections = collections
        self._catalog = catalog
        self._describer = describer
        self._limits = limits

    async def upsert(
        self, collection: str, items: Sequence[ItemInput | InvalidRequest], call: Call, *, request_id: str = ""
    ) -> list[Acknowledgement]:
        """Puts in or replaces items; of two with one id the later wins. One bad item does not fail the others.

        What may pass (Triton away, a full queue) is raised, and then nothing was written.
        """
        if not 1 <= len(items) <= MAX_ITEMS:
            raise InvalidRequest(f"an upsert has 1 to {MAX_ITEMS} items, not {len(items)}")
        check_request_id(request_id)
        async with self._collections.use(collection) as live:
            good = [item for item in items if isinstance(item, ItemInput)]
            known = await self._known(live, good)
            stored = iter(await self._stored(live, good, known, call))
            acknowledgements: list[Acknowledgement | None] = []
            writes: list[Upsert] = []
            for item in items:
                if isinstance(item, InvalidRequest):
                    acknowledgements.append(Acknowledgement("", error=item))
                    continue
                parts = next(stored)
                if isinstance(parts, PspsearchError):
                    acknowledgements.append(Acknowledgement(item.id, error=parts))
                else:
                    descriptor, info, image = parts
                    writes.append(Upsert(item.id, descriptor, item.attributes, info, image))
                    acknowledgements.append(None)
            answers = await self._catalog.write(live.generation, writes, request_id=request_id) if writes else []
            if len(answers) != len(writes):
                raise InvalidRequest(f"the request_id {request_id!r} was used for another call")
            done = iter(zip(writes, answers, strict=True))
            return [given or _acknowledge(*next(done)) for given in acknowledgements]

    async def delete(self, collection: str, ids: Sequence[str], *, request_id: str = "") -> tuple[int, int]:
        """Takes items out; how many there were, and the sequence of the last change."""
        if not 1 <= len(ids) <= MAX_DELETES:
            raise InvalidRequest(f"a deletion names 1 to {MAX_DELETES} ids, not {len(ids)}")
        check_request_id(request_id)
        async with self._collections.use(collection) as live:
            return await self._delete(live, ids, request_id)

    async def delete_matching(self, collection: str, keep: Filter, *, request_id: str = "") -> tuple[int, int]:
        """Takes out every item that the filter holds for, as of one moment, all or none."""
        check_request_id(request_id)
        async with self._collections.use(collection) as live:
            matched = await live.index.match(keep)
            items = await self._catalog.items_by_key(live.collection.key, matched.keys.tolist())
            return await self._delete(live, [item.id for item in items], request_id)

    async def _delete(self, live: Live, ids: Sequence[str], request_id: str) -> tuple[int, int]:
        answers = await self._catalog.write(live.generation, [Delete(id_) for id_ in ids], request_id=request_id)
        deleted = [answer for answer in answers if answer.outcome is Outcome.DELETED]
        return len(deleted), max((answer.sequence for answer in answers), default=0)

    async def _known(self, live: Live, items: Sequence[ItemInput]) -> dict[str, Item]:
        """The items that are there already, of those ids that are named once."""
        ids = [item.id for item in items]
        once = [id_ for id_ in ids if ids.count(id_) == 1]
        return await self._catalog.items(live.collection.key, once)

    async def _stored(
        self, live: Live, items: Sequence[ItemInput], known: dict[str, Item], call: Call
    ) -> list[_Stored | PspsearchError]:
        """What to store for each item; an image that is there already under its id is not described again."""
        kept = live.collection.settings.keep_images
        sources = [item.source for item in items]
        infos = await asyncio.to_thread(lambda: [_read_info(source, self._limits, kept=kept) for source in sources])
        new = [
            isinstance(info, ImageInfo) and not _same(known.get(item.id), info)
            for item, info in zip(items, infos, strict=True)
        ]
        images = [source for source, is_new in zip(sources, new, strict=True) if is_new and isinstance(source, bytes)]
        described = iter(await self._describer.describe_images(live, images, call))
        stored: list[_Stored | PspsearchError] = []
        for source, info, is_new in zip(sources, infos, new, strict=True):
            if isinstance(info, InvalidRequest):
                stored.append(info)
            elif isinstance(source, DescriptorQuery):
                stored.append(_given(live, source))
            elif isinstance(source, bytes) and is_new:
                point = next(described)
                image = source if kept else None
                stored.append(point if isinstance(point, PspsearchError) else (point.astype(np.float16), info, image))
            else:
                stored.append((None, None, None))
        return stored


def _read_info(source: object, limits: ImageLimits, *, kept: bool) -> ImageInfo | InvalidRequest | None:
    """What an image says of itself, before it is decoded; None where there is no image."""
    if not isinstance(source, bytes):
        return None
    try:
        header = read_facts(source, limits)
    except InvalidRequest as error:
        return error
    width_px, height_px = header.upright
    digest = hashlib.sha256(source).hexdigest()
    return ImageInfo(f"image/{header.format.lower()}", width_px, height_px, len(source), digest, kept)


def _same(item: Item | None, fact: ImageInfo) -> bool:
    return item is not None and item.image is not None and item.image.sha256 == fact.sha256


def _given(live: Live, query: DescriptorQuery) -> _Stored | PspsearchError:
    try:
        return check_point(live.generation, query).astype(np.float16), None, None
    except PspsearchError as error:
        return error


def _acknowledge(write: Upsert, written: Written) -> Acknowledgement:
    if written.outcome is Outcome.ABSENT:
        return Acknowledgement(write.id, error=NotFound(f"there is no item {write.id!r} whose attributes could change"))
    return Acknowledgement(write.id, written.outcome, written.sequence)
