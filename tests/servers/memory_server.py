"""The API over dictionaries, in memory only. Descriptors are 8 x 8 thumbnails, filters are `name = value`."""

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from types import TracebackType
from typing import Any, Self

import grpc
import numpy as np
from google.rpc import status_pb2
from numpy.typing import NDArray
from PIL import Image

from pspsearch.v1 import collection_service_pb2 as collections
from pspsearch.v1 import item_service_pb2 as items
from pspsearch.v1 import resources_pb2 as resources
from pspsearch.v1 import search_service_pb2 as searches
from tests.servers.api_server import ApiServer, abort, error_status, reason

FINGERPRINT = "thumbnails"
_ORIGIN = resources.Origin(model="thumbnails", model_version=1, fingerprint=FINGERPRINT, generation=1)
_TIMING = resources.Timing(decode_ms=1, queue_ms=2, inference_ms=3, search_ms=4, total_ms=11)

Descriptor = NDArray[np.float32]


class _Refused(Exception):
    def __init__(self, code: grpc.StatusCode, message: str, name: str) -> None:
        super().__init__(message)
        self.status = error_status(code, message, reason(name))


@dataclass
class _Stored:
    item: resources.Item
    point: Descriptor
    image: bytes


@dataclass
class MemoryServer:
    """A context manager with the methods of the API. Its status reports `serving`."""

    stored: dict[str, dict[str, _Stored]] = field(default_factory=lambda: {"default": {}})
    serving: bool = True

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._settings: dict[str, resources.Collection] = {}
        self._server = ApiServer(self)
        self.address = self._server.address

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.__exit__(kind, error, trace)

    def search(self, request: searches.SearchRequest, context: grpc.ServicerContext) -> searches.SearchResponse:
        """Finds the nearest items."""
        try:
            return self._search(request)
        except _Refused as error:
            abort(context, error.status)
            raise

    def batch_search(self, request: searches.BatchSearchRequest, _context: Any) -> searches.BatchSearchResponse:
        """Answers each query separately."""
        results: list[searches.BatchSearchResult] = []
        for query in request.queries:
            one = searches.SearchRequest(collection=request.collection, query=query, options=request.options)
            try:
                results.append(searches.BatchSearchResult(hits=self._search(one).hits))
            except _Refused as error:
                results.append(searches.BatchSearchResult(status=error.status))
        return searches.BatchSearchResponse(results=results, origin=_ORIGIN, timing=_TIMING)

    def search_stream(
        self, requests: Iterator[searches.SearchStreamRequest], _context: Any
    ) -> Iterator[searches.SearchStreamResponse]:
        """Answers the requests in order."""
        for request in requests:
            try:
                yield searches.SearchStreamResponse(tag=request.tag, response=self._search(request.request))
            except _Refused as error:
                yield searches.SearchStreamResponse(tag=request.tag, status=error.status)

    def compare(self, request: searches.CompareRequest, context: grpc.ServicerContext) -> searches.CompareResponse:
        """Returns the cosine."""
        try:
            stored = self._collection(request.collection)
            score = float(_point(stored, request.left) @ _point(stored, request.right))
        except _Refused as error:
            abort(context, error.status)
            raise
        same = score >= request.threshold if request.HasField("threshold") else None
        return searches.CompareResponse(score=score, same=same, origin=_ORIGIN, timing=_TIMING)

    def explain(self, request: searches.ExplainRequest, context: grpc.ServicerContext) -> searches.ExplainResponse:
        """Shares the cosine among the pixels of the thumbnails; a descriptor has no picture."""
        item = self._item(request.collection, request.id, context).point
        query = _point(self._collection(request.collection), request.query)
        given = (item * query).reshape(64, 3).sum(axis=1)
        whole = resources.Box(right=1, bottom=1)
        shares = searches.Shares(shares=given.tolist(), columns=8, remainder=0.25, seen=whole)
        pair = searches.CellPair(query=whole, item=resources.Box(left=0.5, top=0.25, right=1, bottom=0.5), score=0.75)
        return searches.ExplainResponse(
            score=float(given.sum()) + 0.25,
            query=None if request.query.HasField("descriptor") else shares,
            item=shares,
            pairs=[pair],
            origin=_ORIGIN,
            timing=_TIMING,
        )

    def describe(self, request: searches.DescribeRequest, _context: Any) -> searches.DescribeResponse:
        """Returns the thumbnail."""
        return searches.DescribeResponse(descriptor=_message(_part(request)), origin=_ORIGIN, timing=_TIMING)

    def recommend(self, request: searches.RecommendRequest, _context: Any) -> searches.RecommendResponse:
        """Finds items near the mean of the positives less the mean of the negatives."""
        stored = self._collection(request.collection)
        point = np.mean([_point(stored, query) for query in request.positives], axis=0)
        if request.negatives:
            point = point - np.mean([_point(stored, query) for query in request.negatives], axis=0)
        hits = _nearest(stored, point, request.options, {query.id for query in request.positives})
        return searches.RecommendResponse(hits=hits, origin=_ORIGIN, timing=_TIMING)

    def upsert_items(self, request: items.UpsertItemsRequest, _context: Any) -> items.UpsertItemsResponse:
        """Writes one item after the other."""
        return items.UpsertItemsResponse(results=[self._upsert(request.collection, item) for item in request.items])

    def ingest_items(
        self, requests: Iterator[items.IngestItemsRequest], context: grpc.ServicerContext
    ) -> Iterator[items.IngestItemsResponse]:
        """Writes one item after the other."""
        for request in requests:
            try:
                result = self._upsert(request.collection, request.item)
            except _Refused as error:
                abort(context, error.status)
                raise
            yield items.IngestItemsResponse(tag=request.tag, result=result)

    def get_item(self, request: items.GetItemRequest, context: grpc.ServicerContext) -> items.GetItemResponse:
        """Returns an item, with its descriptor on request."""
        found = self._item(request.collection, request.id, context)
        descriptor = _message(found.point) if request.return_descriptor else None
        return items.GetItemResponse(item=found.item, descriptor=descriptor)

    def get_item_image(
        self, request: items.GetItemImageRequest, context: grpc.ServicerContext
    ) -> items.GetItemImageResponse:
        """Returns the image as it came."""
        return items.GetItemImageResponse(image=self._item(request.collection, request.id, context).image)

    def delete_items(self, request: items.DeleteItemsRequest, _context: Any) -> items.DeleteItemsResponse:
        """Deletes by ids or by filter."""
        stored = self._collection(request.collection)
        ids = request.ids or [id_ for id_, one in stored.items() if _holds(request.filter, one)]
        gone = [stored.pop(id_, None) for id_ in list(ids)]
        return items.DeleteItemsResponse(deleted_count=sum(one is not None for one in gone))

    def list_items(self, request: items.ListItemsRequest, _context: Any) -> items.ListItemsResponse:
        """Lists a page. The token is how many items came before."""
        matching = [one.item for one in self._collection(request.collection).values() if _holds(request.filter, one)]
        begin, size = int(request.page_token or 0), request.page_size or 100
        token = str(begin + size) if begin + size < len(matching) else ""
        return items.ListItemsResponse(items=matching[begin : begin + size], next_page_token=token)

    def count_items(self, request: items.CountItemsRequest, context: grpc.ServicerContext) -> items.CountItemsResponse:
        """Counts the items that match the filter."""
        try:
            stored = self._collection(request.collection)
        except _Refused as error:
            abort(context, error.status)
            raise
        return items.CountItemsResponse(count=sum(_holds(request.filter, one) for one in stored.values()))

    def create_collection(
        self, request: collections.CreateCollectionRequest, context: grpc.ServicerContext
    ) -> collections.CreateCollectionResponse:
        """Creates a collection."""
        name = request.collection.name
        if name in self.stored:
            abort(context, error_status(grpc.StatusCode.ALREADY_EXISTS, f"there is a collection {name!r} already"))
        self.stored[name] = {}
        self._settings[name] = request.collection
        return collections.CreateCollectionResponse(collection=self._state(name))

    def get_collection(
        self, request: collections.GetCollectionRequest, _context: Any
    ) -> collections.GetCollectionResponse:
        """Returns a collection with its state."""
        return collections.GetCollectionResponse(collection=self._state(request.name or "default"))

    def list_collections(self, _request: Any, _context: Any) -> collections.ListCollectionsResponse:
        """Lists the collections by name."""
        return collections.ListCollectionsResponse(collections=[self._state(name) for name in sorted(self.stored)])

    def delete_collection(
        self, request: collections.DeleteCollectionRequest, _context: Any
    ) -> collections.DeleteCollectionResponse:
        """Deletes a collection with everything in it."""
        return collections.DeleteCollectionResponse(deleted_count=len(self.stored.pop(request.name)))

    def get_server_status(self, _request: Any, _context: Any) -> collections.GetServerStatusResponse:
        """Returns a made-up status, except for what is stored."""
        return collections.GetServerStatusResponse(
            version="1.2.3",
            serving=self.serving,
            uptime_s=75.2,
            triton="127.0.0.1:8001 (bundled)",
            models=[_ORIGIN],
            collections=[self._state(name) for name in sorted(self.stored)],
            memory_bytes=3 << 30,
            catalog_bytes=1536,
            requests_in_flight=1,
        )

    def _search(self, request: searches.SearchRequest) -> searches.SearchResponse:
        stored = self._collection(request.collection)
        hits = _nearest(stored, _point(stored, request.query), request.options, {request.query.id})
        return searches.SearchResponse(hits=hits, origin=_ORIGIN, timing=_TIMING)

    def _collection(self, name: str) -> dict[str, _Stored]:
        try:
            return self.stored[name or "default"]
        except KeyError:
            message = f"there is no collection {name!r}"
            raise _Refused(grpc.StatusCode.NOT_FOUND, message, "NOT_FOUND") from None

    def _item(self, collection: str, id_: str, context: grpc.ServicerContext) -> _Stored:
        found = self._collection(collection).get(id_)
        if found is None:
            abort(context, error_status(grpc.StatusCode.NOT_FOUND, f"there is no item {id_!r}", reason("NOT_FOUND")))
        assert found is not None
        return found

    def _upsert(self, collection: str, given: items.ItemInput) -> items.UpsertResult:
        stored = self._collection(collection)
        try:
            point = _describe(given.image) if given.image else np.asarray(given.descriptor.values, np.float32)
        except _Refused as error:
            return items.UpsertResult(id=given.id, status=error.status)
        with self._lock:
            before = stored.get(given.id)
            item = resources.Item(
                id=given.id,
                attributes_json=given.attributes_json or (before.item.attributes_json if before else "{}"),
                image=_info(given.image) if given.image else None,
            )
            outcome = items.UPSERT_OUTCOME_CREATED if before is None else items.UPSERT_OUTCOME_REPLACED
            if before is not None and before.item == item:
                outcome = items.UPSERT_OUTCOME_UNCHANGED
            stored[given.id] = _Stored(item, point, given.image)
        return items.UpsertResult(id=given.id, status=status_pb2.Status(), outcome=outcome, sequence=len(stored))

    def _state(self, name: str) -> resources.Collection:
        made = resources.Collection(model="thumbnails", keep_images=True, target_recall=0.95)
        made.MergeFrom(self._settings.get(name, resources.Collection()))
        made.name = name
        state = resources.CollectionState(
            origin=_ORIGIN, item_count=len(self.stored[name]), index="exact fp16", measured_recall=1, index_bytes=2048
        )
        made.state.CopyFrom(state)
        return made


def _describe(image: bytes, box: resources.Box | None = None) -> Descriptor:
    try:
        with Image.open(BytesIO(image)) as opened:
            part = opened.convert("RGB")
    except (OSError, SyntaxError) as error:
        message = "the image is truncated or corrupt"
        raise _Refused(grpc.StatusCode.INVALID_ARGUMENT, message, "DAMAGED_IMAGE") from error
    if box is not None:
        across, down = (1, 1) if box.in_px else part.size
        sides = box.left * across, box.top * down, box.right * across, box.bottom * down
        part = part.crop((round(sides[0]), round(sides[1]), round(sides[2]), round(sides[3])))
    pixels = np.asarray(part.resize((8, 8)), np.float32).ravel() - 128
    return pixels / np.float32(np.linalg.norm(pixels))


def _part(given: searches.Query | searches.DescribeRequest) -> Descriptor:
    return _describe(given.image, given.box if given.HasField("box") else None)


def _info(image: bytes) -> resources.ImageInfo:
    with Image.open(BytesIO(image)) as opened:
        media_type, (width_px, height_px) = f"image/{(opened.format or '').lower()}", opened.size
    digest = hashlib.sha256(image).hexdigest()
    return resources.ImageInfo(
        media_type=media_type, width_px=width_px, height_px=height_px, size_bytes=len(image), sha256=digest, kept=True
    )


def _message(point: Descriptor) -> resources.Descriptor:
    return resources.Descriptor(values=point.tolist(), fingerprint=FINGERPRINT)


def _point(stored: dict[str, _Stored], query: searches.Query) -> Descriptor:
    if query.HasField("image"):
        return _part(query)
    if query.HasField("descriptor"):
        return np.asarray(query.descriptor.values, np.float32)
    if query.id not in stored:
        raise _Refused(grpc.StatusCode.NOT_FOUND, f"there is no item {query.id!r}", "NOT_FOUND")
    return stored[query.id].point


def _nearest(
    stored: dict[str, _Stored], point: Descriptor, options: searches.SearchOptions, excluded: set[str]
) -> list[searches.Hit]:
    candidates = [one for id_, one in stored.items() if id_ not in excluded and _holds(options.filter, one)]
    candidates.sort(key=lambda one: -float(one.point @ point))
    hits = [
        searches.Hit(
            id=one.item.id,
            score=float(one.point @ point),
            attributes_json=one.item.attributes_json if options.return_attributes else "",
            image=one.image if options.return_images else b"",
            descriptor=_message(one.point) if options.return_descriptors else None,
            group=json.dumps(json.loads(one.item.attributes_json).get(options.group_by)) if options.group_by else "",
        )
        for one in candidates
    ]
    hits = [hit for hit in hits if not options.HasField("min_score") or hit.score >= options.min_score]
    if options.group_by:
        hits = list({hit.group: hit for hit in reversed(hits)}.values())[::-1]
    return hits[options.offset :][: options.limit or 10]


def _holds(filter_: str, one: _Stored) -> bool:
    if filter_ in {"", "*"}:
        return True
    name, _, value = filter_.partition(" = ")
    return json.loads(one.item.attributes_json).get(name) == json.loads(value)
