"""Turns the chosen rows into hits, with the details that were asked for."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, repeat
from typing import ParamSpec, TypeVar

from pspsearch.domain import Descriptor, Found
from pspsearch.errors import InvalidRequest
from pspsearch.live.live import Live
from pspsearch.ports import Items
from pspsearch.query import Hit, Options
from pspsearch.search.ranking import Pick

MAX_CARRIED_BYTES = 64 << 20
"""The most bytes of images, attributes, descriptors, groups and duplicates in one answer, counted for every hit."""
_TOO_MUCH = (
    f"the hits carry more than the {MAX_CARRIED_BYTES >> 20} MiB that one answer may have: "
    "ask for fewer hits, or fetch each image with GetItemImage"
)
HITS_AT_ONCE = 256
"""The most hits that the event loop makes or writes in one go: ten usual searches' worth, about a millisecond."""
ATTRIBUTES_AT_ONCE = 1000
_IMAGES_AT_ONCE = 16

_T = TypeVar("_T")
_Given = ParamSpec("_Given")


@dataclass(frozen=True, slots=True)
class Page:
    """The rows that become the answer to one query."""

    rows: Found
    """The hits."""
    picks: Sequence[Pick] = ()
    """The group and duplicates of each hit; empty if the search is ordered by score alone."""

    @property
    def size(self) -> int:
        """The number of hits and duplicates."""
        return len(self.rows.ids) + sum(len(picked.duplicates) for picked in self.picks)


@dataclass(frozen=True, slots=True)
class _Details:
    """The details of all pages' hits from the catalog and the index; empty where not asked for."""

    attributes: dict[int, str] = field(default_factory=dict[int, str])
    images: dict[str, bytes | None] = field(default_factory=dict[str, bytes | None])
    descriptors: dict[int, Descriptor] = field(default_factory=dict[int, Descriptor])


async def complete(catalog: Items, live: Live, pages: Sequence[Page], options: Options) -> list[list[Hit]]:
    """Returns the hits of each page. The catalog and the index are asked once for all pages."""
    size = sum(page.size for page in pages)
    details = await _collect(catalog, live, pages, options, size)
    return await aside(size, _make_hits, pages, details)


async def aside(size: int, work: Callable[_Given, _T], *given: _Given.args, **named: _Given.kwargs) -> _T:
    """Does the work in another thread if `size` hits and duplicates would hold up the event loop, else at once."""
    if size <= HITS_AT_ONCE:
        return work(*given, **named)
    return await asyncio.to_thread(work, *given, **named)


def _make_hits(pages: Sequence[Page], details: _Details) -> list[list[Hit]]:
    return [
        [
            Hit(
                id=id_,
                score=score,
                attributes=details.attributes.get(sequence, ""),
                image=details.images.get(id_) or b"",
                descriptor=details.descriptors.get(sequence),
                group=picked.group,
                duplicates=tuple(picked.duplicates),
            )
            for id_, sequence, score, picked in zip(
                page.rows.ids,
                page.rows.sequences.tolist(),
                page.rows.scores.tolist(),
                page.picks or repeat(_ALONE),
                strict=False,
            )
        ]
        for page in pages
    ]


_ALONE = Pick(0)


class Room:
    """How much an answer, or the material for one, may still hold."""

    def __init__(self, refusal: str) -> None:
        self._bytes = MAX_CARRIED_BYTES
        self._refusal = refusal

    def take(self, size_bytes: int) -> None:
        """Takes up some of the room. Raises InvalidRequest with the given words if there is not enough."""
        self._bytes -= size_bytes
        if self._bytes < 0:
            raise InvalidRequest(self._refusal)


async def _collect(catalog: Items, live: Live, pages: Sequence[Page], options: Options, size: int) -> _Details:
    """Reads in slices, so that an answer that would be too large is refused before all of it is in memory."""
    details, room = _Details(), Room(_TOO_MUCH)
    if options.sets_apart:
        room.take(await aside(size, _measure_names, pages))
    if not (options.attributes or options.images or options.descriptors):
        return details
    rows, carriers, carriers_by_id = await aside(size, _count, pages)
    if options.descriptors and rows:
        room.take(carriers.total() * live.generation.dimension * 4)
        details.descriptors.update(zip(rows, await live.index.descriptors(rows), strict=True))
    if options.attributes:
        for some in slices(rows.items(), ATTRIBUTES_AT_ONCE):
            attributes = await attributes_of(catalog, live, dict(some))
            room.take(sum(carriers[sequence] * len(text.encode()) for sequence, text in attributes.items()))
            details.attributes.update(attributes)
    if options.images:
        for ids in slices(carriers_by_id, _IMAGES_AT_ONCE):
            images = await asyncio.gather(*(catalog.image(live.collection.key, id_) for id_ in ids))
            room.take(sum(carriers_by_id[id_] * len(image or b"") for id_, image in zip(ids, images, strict=True)))
            details.images.update(zip(ids, images, strict=True))
    return details


def _measure_names(pages: Sequence[Page]) -> int:
    """Counts the bytes of groups and duplicates."""
    return sum(len("".join((picked.group, *picked.duplicates)).encode()) for page in pages for picked in page.picks)


def _count(pages: Sequence[Page]) -> tuple[dict[int, str], Counter[int], Counter[str]]:
    """Returns the ids by sequence, and how many hits there are of each sequence and of each id."""
    sequences = [sequence for page in pages for sequence in page.rows.sequences.tolist()]
    ids = [id_ for page in pages for id_ in page.rows.ids]
    return dict(zip(sequences, ids, strict=True)), Counter(sequences), Counter(ids)


def slices(things: Iterable[_T], size: int) -> Iterator[list[_T]]:
    """Cuts things into lists of `size`; the last may be shorter."""
    rest = iter(things)
    while some := list(islice(rest, size)):
        yield some


async def attributes_of(catalog: Items, live: Live, rows: dict[int, str]) -> dict[int, str]:
    """Returns the attributes of rows as they were found, by sequence.

    A row replaced since then has its current attributes, a deleted one an empty object.
    """
    attributes = await catalog.attributes(live.collection.key, list(rows))
    gone = {sequence: id_ for sequence, id_ in rows.items() if sequence not in attributes}
    if not gone:
        return attributes
    items = await catalog.items(live.collection.key, list(gone.values()))
    return attributes | {sequence: items[id_].attributes if id_ in items else "{}" for sequence, id_ in gone.items()}
