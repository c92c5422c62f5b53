"""ItemService, translated to calls of the core and the catalog."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import numpy as np

from pspsearch.call import Call
from pspsearch.domain import DEFAULT_COLLECTION, Generation, Item, Outcome
from pspsearch.errors import InvalidRequest, NotFound, PspsearchError, bare
from pspsearch.ingest.ingester import Ingester
from pspsearch.ingest.request import MAX_ID_BYTES, Acknowledgement, ItemInput, check_id
from pspsearch.ingest.stream import ingest
from pspsearch.live.collections import Collections
from pspsearch.live.live import Live
from pspsearch.ports import Generations, Items
from pspsearch.rpc.admission import Admission, Visitor
from pspsearch.rpc.messages import (
    prepare_filter,
    read_descriptor,
    read_filter,
    write_descriptor,
    write_image_info,
    write_item,
)
from pspsearch.rpc.page_token import read_token, write_token
from pspsearch.rpc.streams import Exchange, Requests, Turn
from pspsearch.v1 import item_service_pb2 as items

_PAGE = 100
_MAX_PAGE = 1000
_UNDER_WAY = 256
"""How many items of one stream may be read and not yet acknowledged."""
_OUTCOMES = {
    Outcome.CREATED: items.UPSERT_OUTCOME_CREATED,
    Outcome.REPLACED: items.UPSERT_OUTCOME_REPLACED,
    Outcome.UNCHANGED: items.UPSERT_OUTCOME_UNCHANGED,
}

_ACKNOWLEDGEMENT_BYTES = 2048
"""The most bytes of an acknowledgement: an id and a sentence."""

_Turn = Turn[items.IngestItemsRequest]
_Exchange = Exchange[items.IngestItemsRequest]


class ItemCatalog(Items, Generations, Protocol):
    """What this service needs of a catalog."""


class ItemService:
    """Reads and writes items. An acknowledged item is durable, and the next search finds it."""

    def __init__(
        self, admission: Admission, ingester: Ingester, collections: Collections, catalog: ItemCatalog
    ) -> None:
        self._admission = admission
        self._ingester = ingester
        self._collections = collections
        self._catalog = catalog

    async def UpsertItems(self, request: items.UpsertItemsRequest, visitor: Visitor) -> items.UpsertItemsResponse:
        inputs = await asyncio.to_thread(lambda: [_read_item(item) for item in request.items])  # parses JSON
        given = await self._ingester.upsert(request.collection, inputs, visitor.call, request_id=request.request_id)
        results = [
            self._write(item.id, one, "UpsertItems", visitor.call)
            for item, one in zip(request.items, given, strict=True)
        ]
        visitor.call.facts["acknowledged"] = sum(one.error is None for one in given)
        return items.UpsertItemsResponse(results=results)

    async def IngestItems(self, requests: Requests[items.IngestItemsRequest], visitor: Visitor) -> None:
        exchange = _Exchange(requests, _UNDER_WAY, visitor.quota, lambda _: _ACKNOWLEDGEMENT_BYTES)
        await exchange.run(self._ingest(exchange, visitor), visitor.context.write)

    async def GetItem(self, request: items.GetItemRequest, visitor: Visitor) -> items.GetItemResponse:
        async with self._collections.use(request.collection) as live:
            item = await self._find(live, request.id)
            descriptor = None
            if request.return_descriptor:
                stored = await self._catalog.descriptor(live.generation, request.id)
                descriptor = None if stored is None else write_descriptor(stored.astype(np.float32), live.generation)
            return items.GetItemResponse(item=write_item(item), descriptor=descriptor)

    async def GetItemImage(self, request: items.GetItemImageRequest, visitor: Visitor) -> items.GetItemImageResponse:
        async with self._collections.use(request.collection) as live:
            item = await self._find(live, request.id)
            image = await self._catalog.image(live.collection.key, request.id)
            if image is None or item.image is None:
                raise NotFound(f"the image of item {request.id!r} was not kept")
            return items.GetItemImageResponse(image=image, info=write_image_info(item.image))

    async def DeleteItems(self, request: items.DeleteItemsRequest, visitor: Visitor) -> items.DeleteItemsResponse:
        await prepare_filter(request.filter)
        where = read_filter(request.filter)
        if (where is None) == (not request.ids):
            raise InvalidRequest("a deletion names ids or a filter, and not both")
        if where is not None:
            deleted = self._ingester.delete_matching(request.collection, where, request_id=request.request_id)
        else:
            deleted = self._ingester.delete(request.collection, request.ids, request_id=request.request_id)
        count, sequence = await deleted
        visitor.call.facts |= {"deleted": count, "filter": request.filter}
        return items.DeleteItemsResponse(deleted_count=count, sequence=sequence)

    async def ListItems(self, request: items.ListItemsRequest, visitor: Visitor) -> items.ListItemsResponse:
        async with self._collections.use(request.collection) as live:
            size = request.page_size or _PAGE
            if not 1 <= size <= _MAX_PAGE:
                raise InvalidRequest(f"page_size must be 1 to {_MAX_PAGE}, not {size}")
            if request.filter and request.not_in_generation:
                raise InvalidRequest("give either a filter or not_in_generation")
            name, matching = live.collection.name, request.filter or f"not in {request.not_in_generation}"
            after = read_token(request.page_token, name, matching)
            page, last = await self._page(live, request, after, size)
            token = write_token(last, name, matching) if last else ""
            return items.ListItemsResponse(items=[write_item(item) for item in page], next_page_token=token)

    async def CountItems(self, request: items.CountItemsRequest, visitor: Visitor) -> items.CountItemsResponse:
        async with self._collections.use(request.collection) as live:
            await prepare_filter(request.filter)
            return items.CountItemsResponse(count=await live.index.count(read_filter(request.filter)))

    async def _ingest(self, exchange: _Exchange, visitor: Visitor) -> None:
        turns, call = exchange.turns(), visitor.call
        first = await anext(turns, None)
        if first is None:
            return
        await self._admission.check_next("IngestItems", visitor, first.request)
        collection = first.request.collection
        self._collections.get(collection)
        call.facts["collection"] = collection or DEFAULT_COLLECTION
        told: dict[int, _Turn] = {}
        done = 0

        async def read() -> AsyncIterator[tuple[int, ItemInput | PspsearchError]]:
            """Numbers the items, because a caller's tags may repeat."""
            number, turn, refusal = 0, first, None
            while turn is not None:
                told[number] = turn
                yield number, refusal or _read_item(turn.request.item)
                number, turn = number + 1, await anext(turns, None)
                refusal = await self._refuse(turn, collection, visitor)

        async for number, acknowledgement in ingest(self._ingester, collection, read()):
            turn = told.pop(number)
            result = self._write(turn.request.item.id, acknowledgement, "IngestItems", call)
            call.facts["acknowledged"] = done = done + (acknowledgement.error is None)
            exchange.answer(turn, items.IngestItemsResponse(tag=turn.request.tag, result=result).SerializeToString())

    async def _refuse(self, turn: _Turn | None, collection: str, visitor: Visitor) -> PspsearchError | None:
        """Why the stream's next item is refused, or None. The caller may have lost the right since the stream began."""
        if turn is None:
            return None
        turn.request.collection = collection
        try:
            await self._admission.check_next("IngestItems", visitor, turn.request)
        except PspsearchError as error:
            return bare(error)
        return None

    async def _find(self, live: Live, id_: str) -> Item:
        check_id(id_)
        found = await self._catalog.items(live.collection.key, [id_])
        if id_ not in found:
            raise NotFound(f"there is no item {id_!r} in the collection")
        return found[id_]

    async def _page(
        self, live: Live, request: items.ListItemsRequest, after: int, size: int
    ) -> tuple[Sequence[Item], int]:
        """The items of one page, and the key that the next page continues after; 0 if there is no next page."""
        key = live.collection.key
        await prepare_filter(request.filter)
        where = read_filter(request.filter)
        if where is None:
            if request.not_in_generation:
                generation = await self._generation(live, request.not_in_generation)
                page = await self._catalog.lacking(generation, after, size + 1)
            else:
                page = await self._catalog.page(key, after, size + 1)
            return page[:size], page[size - 1].key if len(page) > size else 0
        async with contextlib.aclosing(live.index.match(where, size + 1, after)) as pages:
            keys = (await anext(pages)).keys.tolist()
        page = await self._catalog.items_by_key(key, keys[:size])
        return page, keys[size - 1] if len(keys) > size else 0

    async def _generation(self, live: Live, key: int) -> Generation:
        for record in await self._catalog.generations(live.collection.key):
            if record.generation.key == key:
                return record.generation
        raise NotFound(f"the collection has no generation {key}")

    def _write(self, id_: str, given: Acknowledgement, method: str, call: Call) -> items.UpsertResult:
        self._admission.metrics.count_item("refused" if given.outcome is None else given.outcome.value)
        if given.outcome is None:
            assert given.error is not None
            return items.UpsertResult(id=id_[:MAX_ID_BYTES], status=self._admission.explain(method, given.error, call))
        return items.UpsertResult(id=id_, outcome=_OUTCOMES[given.outcome], sequence=given.sequence)


def _read_item(item: items.ItemInput) -> ItemInput | InvalidRequest:
    """The item, or why it is invalid."""
    attributes = item.attributes_json if item.HasField("attributes_json") else None
    try:
        match item.WhichOneof("source"):
            case "image":
                return ItemInput(item.id, item.image, attributes)
            case "descriptor":
                return ItemInput(item.id, read_descriptor(item.descriptor), attributes)
            case _:
                return ItemInput(item.id, None, attributes)
    except InvalidRequest as error:
        return bare(error)
