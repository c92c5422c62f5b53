"""Explanations: which cells of a query's picture and of an item's give their score."""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pspsearch.call import Call, Stage
from pspsearch.describe.queries import QueryDescriber, check_descriptor, normalise
from pspsearch.domain import Area, CellPair, Described, Descriptor, Descriptors, ImageInfo, Item
from pspsearch.errors import BadImage, BrokenModel, ModelMismatch, NoPicture, NotFound
from pspsearch.images.pixels import seen_part
from pspsearch.live.live import Live
from pspsearch.ports import Items
from pspsearch.query import DescriptorQuery, Explanation, ImageQuery, ItemQuery, Query, Shares
from pspsearch.search import explaining


@dataclass(frozen=True, slots=True)
class _Picture:
    """A picture's cells, what they weigh in its descriptor, and where they are."""

    cells: Descriptors
    weights: explaining.Numbers
    across: int
    seen: Area

    def box(self, cell: int) -> Area:
        """Where a cell is in the picture."""
        row, column = divmod(cell, self.across)
        wide, high = (self.seen.right - self.seen.left) / self.across, (self.seen.bottom - self.seen.top) / self.across
        left, top = self.seen.left + column * wide, self.seen.top + row * high
        return Area(left, top, left + wide, top + high)

    def share(self, score: float, other: Descriptor) -> Shares:
        """How the cells share the score with the other side's descriptor."""
        shares = explaining.share(self.weights, self.cells, other)
        return Shares(shares.reshape(self.across, self.across), score - float(shares.sum()), self.seen)


class _Side(NamedTuple):
    """A query or an item."""

    descriptor: Descriptor
    picture: _Picture | None
    """None if it has none."""


class Explainer:
    """Explains scores. Only tasks of one event loop may use it."""

    def __init__(self, catalog: Items, describer: QueryDescriber) -> None:
        self._catalog = catalog
        self._describer = describer

    async def explain(self, live: Live, query: Query, id: str, call: Call) -> Explanation:  # noqa: A002
        """Explains the score of the query and an item. Every number comes from the one generation.

        Raises ModelMismatch if its version gives no cells, NotFound, and NoPicture if neither side has a picture. The
        images are read and described one after the other, so that only one is in memory.
        """
        version = live.describer.version
        if not explaining.finest(version.contract.bins):
            raise ModelMismatch(
                f"{version} does not describe the parts of a picture, at most {explaining.MOST_ACROSS} across: "
                "publish a version with cells, and roll it out"
            )
        await self._descriptor(live, id)  # before anything is described
        asked = await self._asked(live, query, call)
        item = await self._item(live, id, call)
        if asked.picture is None and item.picture is None:
            raise NoPicture("neither the query nor the item has a picture that was kept: search by an image")
        with call.stage(Stage.SEARCH):
            return await asyncio.to_thread(_explain, live, asked, item)

    async def _asked(self, live: Live, query: Query, call: Call) -> _Side:
        match query:
            case ImageQuery():
                return await self._look(live, query, call)
            case ItemQuery():
                item = await self._item(live, query.id, call)
                return _Side(normalise(item.descriptor[None])[0], item.picture)
            case DescriptorQuery():
                return _Side(check_descriptor(live, query), None)

    async def _item(self, live: Live, id: str, call: Call) -> _Side:  # noqa: A002
        """Returns the item with the picture that its descriptor is of."""
        collection = live.collection.key
        with call.stage(Stage.SEARCH):
            before = await self._catalog.items(collection, [id])
            while True:
                descriptor = await self._descriptor(live, id)
                image = await self._catalog.image(collection, id)
                after = await self._catalog.items(collection, [id])
                if _pictures(after) == _pictures(before):
                    break
                before = after
        picture = None
        if image is not None:
            with contextlib.suppress(BadImage):  # the server's limits may be lower than when it came
                picture = (await self._look(live, ImageQuery(image), call)).picture
        return _Side(descriptor, picture)

    async def _descriptor(self, live: Live, id: str) -> Descriptor:  # noqa: A002
        stored = await self._catalog.descriptor(live.generation, id)
        if stored is None:
            raise NotFound(f"there is no item {id!r} in the collection")
        return stored.astype(np.float32)

    async def _look(self, live: Live, image: ImageQuery, call: Call) -> _Side:
        described = await self._describer.describe_cells(live.describer, image, call)
        return await asyncio.to_thread(_weigh, live, image, described)


def _pictures(items: Mapping[str, Item]) -> list[tuple[int, ImageInfo | None]]:
    """What an item's descriptor depends on."""
    return [(item.key, item.image) for item in items.values()]


def _weigh(live: Live, image: ImageQuery, described: Described) -> _Side:
    version, cells = live.describer.version, described.cells
    contract, descriptor = version.contract, described.descriptors[0]
    if cells is None or not np.isfinite(cells).all():
        raise BrokenModel(f"{version} answers with cells that are not what its contract promises")
    across = explaining.finest(contract.bins)
    of_level = explaining.cells_of(across, contract.bins, cells[0])
    seen = Area(0, 0, 1, 1) if contract.input is None else seen_part(image.image, contract.input, image.box)
    return _Side(descriptor, _Picture(of_level, explaining.weigh(descriptor, of_level), across, seen))


def _explain(live: Live, asked: _Side, item: _Side) -> Explanation:
    # As in a search: the stored descriptor is rounded, and not quite of unit length.
    score = float(np.clip(asked.descriptor @ item.descriptor, -1, 1))
    left, right = asked.picture, item.picture
    pairs: list[CellPair] = []
    if left is not None and right is not None:
        found = explaining.match(left.cells, right.cells, left.weights, right.weights)
        pairs = [CellPair(left.box(one), right.box(other), cosine) for one, other, cosine in found]
    return Explanation(
        score,
        left.share(score, item.descriptor) if left is not None else None,
        right.share(score, asked.descriptor) if right is not None else None,
        pairs,
        live.generation,
    )
