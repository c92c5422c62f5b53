"""From the rows that were picked to hits, with what was asked for of each."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from pspsearch.domain import Found
from pspsearch.errors import InvalidRequest
from pspsearch.ports import Catalog
from pspsearch.search.describing import Point
from pspsearch.search.live import Live
from pspsearch.search.query import Hit, Options
from pspsearch.search.ranking import Pick

MAX_CARRIED_BYTES = 64 << 20
"""Images, attributes, descriptors, groups and duplicates of one answer, each counted for every hit that carries it."""
_TOO_MUCH = (
    f"the hits carry more than the {MAX_CARRIED_BYTES >> 20} MiB that one answer may have: "
    "ask for fewer hits, or fetch each image with GetItemImage"
)
ATTRIBUTES_AT_ONCE = 1000
_IMAGES_AT_ONCE = 16

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Page:
    """What becomes the answer to one query."""

    found: Found
    picks: Sequence[Pick]
    """Of what was found, best first."""

    @property
    def sequences(self) -> list[int]:
        """Of the picked rows."""
        return [int(self.found.sequences[picked.place]) for picked in self.picks]

    @property
    def ids(self) -> list[str]:
        """Of the picked rows."""
        return [self.found.ids[picked.place] for picked in self.picks]


@dataclass(frozen=True, slots=True)
class _Details:
    """What the hits of all pages take from elsewhere; what was not asked for is not there."""

    attributes: dict[int, str] = field(default_factory=dict[int, str])
    images: dict[str, bytes | None] = field(default_factory=dict[str, bytes | None])
    descriptors: dict[int, Point] = field(default_factory=dict[int, Point])


async def complete(catalog: Catalog, live: Live, pages: Sequence[Page], options: Options) -> list[list[Hit]]:
    """The hits of each page. The catalog and the index are asked once for all of them."""
    details = await _collect(catalog, live, pages, options)
    return [
        [
            Hit(
                id=id_,
                score=float(page.found.scores[picked.place]),
                attributes=details.attributes.get(sequence, ""),
                image=details.images.get(id_) or b"",
                descriptor=details.descriptors.get(sequence),
                group=picked.group,
                duplicates=tuple(picked.duplicates),
            )
            for picked, sequence, id_ in zip(page.picks, page.sequences, page.ids, strict=True)
        ]
        for page in pages
    ]


class Room:
    """What an answer, or what it is made of, may still hold."""

    def __init__(self, refusal: str) -> None:
        self._bytes = MAX_CARRIED_BYTES
        self._refusal = refusal

    def take(self, size_bytes: int) -> None:
        """InvalidRequest, in those words, where it is more than that."""
        self._bytes -= size_bytes
        if self._bytes < 0:
            raise InvalidRequest(self._refusal)


async def _collect(catalog: Catalog, live: Live, pages: Sequence[Page], options: Options) -> _Details:
    """In slices, so that an answer that would be too large is noticed before it is there."""
    details, room = _Details(), Room(_TOO_MUCH)
    if options.sets_apart:
        for page in pages:
            room.take(sum(len("".join((picked.group, *picked.duplicates)).encode()) for picked in page.picks))
    if not (options.attributes or options.images or options.descriptors):
        return details
    rows = {sequence: id_ for page in pages for sequence, id_ in zip(page.sequences, page.ids, strict=True)}
    if options.descriptors and rows:
        room.take(sum(len(page.picks) for page in pages) * live.generation.dimension * 4)
        details.descriptors.update(zip(rows, await live.index.descriptors(rows), strict=True))
    if options.attributes:
        carriers = Counter(sequence for page in pages for sequence in page.sequences)
        for some in slices(rows.items(), ATTRIBUTES_AT_ONCE):
            attributes = await attributes_of(catalog, live, dict(some))
            room.take(sum(carriers[sequence] * len(text.encode()) for sequence, text in attributes.items()))
            details.attributes.update(attributes)
    if options.images:
        carriers = Counter(id_ for page in pages for id_ in page.ids)
        for ids in slices(carriers, _IMAGES_AT_ONCE):
            images = await asyncio.gather(*(catalog.image(live.collection.key, id_) for id_ in ids))
            room.take(sum(carriers[id_] * len(image or b"") for id_, image in zip(ids, images, strict=True)))
            details.images.update(zip(ids, images, strict=True))
    return details


def slices(things: Iterable[_T], size: int) -> Iterator[list[_T]]:
    """The last one may be shorter."""
    rest = iter(things)
    while some := list(islice(rest, size)):
        yield some


async def attributes_of(catalog: Catalog, live: Live, rows: dict[int, str]) -> dict[int, str]:
    """As they were found; of a row that was replaced since, those of now, and none of one that was deleted."""
    attributes = await catalog.attributes(live.collection.key, list(rows))
    gone = {sequence: id_ for sequence, id_ in rows.items() if sequence not in attributes}
    if not gone:
        return attributes
    items = await catalog.items(live.collection.key, list(gone.values()))
    return attributes | {sequence: items[id_].attributes if id_ in items else "{}" for sequence, id_ in gone.items()}
