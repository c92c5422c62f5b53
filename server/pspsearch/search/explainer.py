"""Explanations: which cells of a query's picture and of an item's give their score."""

import asyncio
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pspsearch.call import Call, Stage
from pspsearch.describe.queries import QueryDescriber, check_descriptor, normalise
from pspsearch.domain import Area, Described, Descriptor, Descriptors
from pspsearch.errors import ModelMismatch, NoPicture, NotFound
from pspsearch.images.pixels import seen_part
from pspsearch.live.live import Live
from pspsearch.model.contract import Contract
from pspsearch.ports import Items
from pspsearch.query import CellPair, DescriptorQuery, Explanation, ImageQuery, ItemQuery, Query, Shares
from pspsearch.search import explaining


class _Side(NamedTuple):
    """A query or an item."""

    picture: ImageQuery | None
    """None if it has none."""
    descriptor: Descriptor | None
    """None if that of its picture is meant."""


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


class Explainer:
    """Explains scores. Only tasks of one event loop may use it."""

    def __init__(self, catalog: Items, describer: QueryDescriber) -> None:
        self._catalog = catalog
        self._describer = describer

    async def explain(self, live: Live, query: Query, id: str, call: Call) -> Explanation:  # noqa: A002
        """Explains the score of the query and an item. Every number comes from the one generation.

        Raises ModelMismatch if its version gives no cells, NotFound, and NoPicture if neither side has a picture.
        """
        version = live.describer.version
        if not explaining.finest(version.contract.bins):
            raise ModelMismatch(
                f"{version} does not describe the parts of a picture: publish a version with cells, and roll it out"
            )
        with call.stage(Stage.SEARCH):
            item = await self._item(live, id)
            asked = await self._asked(live, query)
        if asked.picture is None and item.picture is None:
            raise NoPicture("neither the query nor the item has a picture that was kept: search by an image")
        described = [await self._describe(live, side.picture, call) for side in (asked, item)]
        with call.stage(Stage.SEARCH):
            return await asyncio.to_thread(_explain, live, asked, item, *described)

    async def _describe(self, live: Live, picture: ImageQuery | None, call: Call) -> Described | None:
        return None if picture is None else await self._describer.describe_cells(live.describer, picture, call)

    async def _asked(self, live: Live, query: Query) -> _Side:
        match query:
            case ImageQuery():
                return _Side(query, None)
            case ItemQuery():
                item = await self._item(live, query.id)
                assert item.descriptor is not None
                return _Side(item.picture, normalise(item.descriptor[None])[0])
            case DescriptorQuery():
                return _Side(None, check_descriptor(live, query))

    async def _item(self, live: Live, id: str) -> _Side:  # noqa: A002
        """Returns the item's image and descriptor, of one moment."""
        collection = live.collection.key
        before = await self._catalog.items(collection, [id])
        while True:
            descriptor = await self._catalog.descriptor(live.generation, id)
            image = await self._catalog.image(collection, id)
            after = await self._catalog.items(collection, [id])
            if after == before:
                break
            before = after
        if descriptor is None:
            raise NotFound(f"there is no item {id!r} in the collection")
        return _Side(None if image is None else ImageQuery(image), descriptor.astype(np.float32))


def _explain(
    live: Live, asked: _Side, item: _Side, query_described: Described | None, item_described: Described | None
) -> Explanation:
    """Explains the score, given what the model says of the pictures of both, or of the one that has one."""
    contract = live.describer.version.contract
    left, right = _look(contract, asked.picture, query_described), _look(contract, item.picture, item_described)
    query = asked.descriptor
    if query is None:
        assert query_described is not None
        query = query_described.descriptors[0]
    assert item.descriptor is not None
    # As in a search: the stored descriptor is rounded, and not quite of unit length.
    score = float(np.clip(query @ item.descriptor, -1, 1))
    pairs: list[CellPair] = []
    if left is not None and right is not None:
        found = explaining.match(left.cells, right.cells, left.weights, right.weights)
        pairs = [CellPair(left.box(one), right.box(other), cosine) for one, other, cosine in found]
    return Explanation(
        score,
        left.share(score, item.descriptor) if left is not None else None,
        right.share(score, query) if right is not None else None,
        pairs,
        live.generation,
    )


def _look(contract: Contract, picture: ImageQuery | None, described: Described | None) -> _Picture | None:
    if picture is None or described is None:
        return None
    assert described.cells is not None
    across = explaining.finest(contract.bins)
    cells = explaining.cells_of(across, contract.bins, described.cells[0])
    shape = contract.input
    seen = Area(0, 0, 1, 1) if shape is None else seen_part(picture.image, shape, picture.box)
    return _Picture(cells, explaining.weigh(described.descriptors[0], cells), across, seen)
