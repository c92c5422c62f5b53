"""From the rows that were picked to hits, with what was asked for of each."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from pspsearch.domain import Found
from pspsearch.ports import Catalog
from pspsearch.search.describing import Point
from pspsearch.search.live import Live
from pspsearch.search.query import Hit, Options
from pspsearch.search.ranking import Pick


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


async def _collect(catalog: Catalog, live: Live, pages: Sequence[Page], options: Options) -> _Details:
    details = _Details()
    if not (options.attributes or options.images or options.descriptors):
        return details
    rows = {sequence: id_ for page in pages for sequence, id_ in zip(page.sequences, page.ids, strict=True)}
    if options.attributes:
        details.attributes.update(await _attributes(catalog, live, rows))
    if options.images:
        ids = list(rows.values())
        images = await asyncio.gather(*(catalog.image(live.collection.key, id_) for id_ in ids))
        details.images.update(zip(ids, images, strict=True))
    if options.descriptors and rows:
        details.descriptors.update(zip(rows, await live.index.descriptors(rows), strict=True))
    return details


async def _attributes(catalog: Catalog, live: Live, rows: dict[int, str]) -> dict[int, str]:
    """As they were found; of a row that was replaced since, those of now, and none of one that was deleted."""
    attributes = await catalog.attributes(live.collection.key, list(rows))
    gone = {sequence: id_ for sequence, id_ in rows.items() if sequence not in attributes}
    if not gone:
        return attributes
    items = await catalog.items(live.collection.key, list(gone.values()))
    return attributes | {sequence: items[id_].attributes if id_ in items else "{}" for sequence, id_ in gone.items()}
