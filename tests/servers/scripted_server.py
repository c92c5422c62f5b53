"""A server that does what a test tells it to, such as what a real one does only on a bad day."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

import grpc
from google.rpc import status_pb2

from pspsearch.v1 import collection_service_pb2 as collections
from pspsearch.v1 import item_service_pb2 as items
from pspsearch.v1 import search_service_pb2 as searches
from tests.servers.api_server import ApiServer, abort

Requests = Iterator[items.IngestItemsRequest]
Responses = Iterator[items.IngestItemsResponse]
Ingest = Callable[[Requests, grpc.ServicerContext], Responses]


class ScriptedServer:
    """Fails with `failures`, one per call, and then answers with empty messages. `ingest` says how it ingests."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.failures: deque[status_pb2.Status] = deque()
        self.ingest: Ingest = acknowledge_all
        self.hangs = False
        """Whether calls wait until the server is closed."""
        self._closed = threading.Event()
        self._server = ApiServer(self)
        self.address = self._server.address

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._server.__exit__(kind, error, trace)

    def search(self, request: Any, context: grpc.ServicerContext) -> searches.SearchResponse:
        """Finds nothing."""
        self._suffer(request, context)
        return searches.SearchResponse()

    def upsert_items(self, request: Any, context: grpc.ServicerContext) -> items.UpsertItemsResponse:
        """Acknowledges nothing."""
        self._suffer(request, context)
        return items.UpsertItemsResponse()

    def delete_items(self, request: Any, context: grpc.ServicerContext) -> items.DeleteItemsResponse:
        """Deletes nothing."""
        self._suffer(request, context)
        return items.DeleteItemsResponse()

    def create_collection(self, request: Any, context: grpc.ServicerContext) -> collections.CreateCollectionResponse:
        """Returns the collection as requested."""
        self._suffer(request, context)
        return collections.CreateCollectionResponse(collection=request.collection)

    def ingest_items(self, requests: Requests, context: grpc.ServicerContext) -> Responses:
        """Ingests as the test says."""
        return self.ingest(requests, context)

    def _suffer(self, request: Any, context: grpc.ServicerContext) -> None:
        self.requests.append(request)
        if self.hangs:
            self._closed.wait()
        if self.failures:
            abort(context, self.failures.popleft())


def acknowledge_all(requests: Requests, _context: grpc.ServicerContext) -> Responses:
    """Acknowledges every item as new."""
    for request in requests:
        yield acknowledged(request)


def acknowledged(
    request: items.IngestItemsRequest, status: status_pb2.Status | None = None
) -> items.IngestItemsResponse:
    """The acknowledgement of one item."""
    outcome = items.UPSERT_OUTCOME_UNSPECIFIED if status else items.UPSERT_OUTCOME_CREATED
    result = items.UpsertResult(id=request.item.id, status=status, outcome=outcome)
    return items.IngestItemsResponse(tag=request.tag, result=result)
