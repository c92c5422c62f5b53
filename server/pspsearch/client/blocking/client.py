# Made from the client that awaits: see tools/blocking_client.py.
"""The client that blocks."""

import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

import grpc

from pspsearch import traces
from pspsearch.client import operations
from pspsearch.client.answers import read_rollout, read_streamed
from pspsearch.client.blocking.ingest import Ingest
from pspsearch.client.blocking.threads import is_callers, streaming
from pspsearch.client.failures import call_error
from pspsearch.client.operations import Answer, Operation, Response
from pspsearch.client.retries import DEFAULT_RETRIES, Attempts, Retries, RetryBudget
from pspsearch.client.settings import (
    CHANNEL_OPTIONS,
    DEFAULT,
    MAX_UNACKNOWLEDGED,
    MAX_UNACKNOWLEDGED_BYTES,
    Tls,
    call_metadata,
)
from pspsearch.client.throttle import Throttle
from pspsearch.client.types import (
    Acknowledgement,
    BatchResult,
    Collection,
    Comparison,
    Description,
    Generation,
    Item,
    ItemInput,
    ModelVersion,
    Origin,
    Query,
    Rollout,
    SearchOptions,
    SearchResult,
    ServerStatus,
)
from pspsearch.client.window import Window
from pspsearch.domain import IndexKind
from pspsearch.errors import PspsearchError
from pspsearch.v1 import item_service_pb2 as items
from pspsearch.v1 import model_service_pb2 as models
from pspsearch.v1 import search_service_pb2 as searches


class Client:
    """A connection to a pspsearch server, made with the first call. Close it, or use it as a context.

    Any thread may use it.

    Each call takes at most `timeout_s` (None: any time), its retries included; streams take as long as they take.
    `token` is what the server's operator gave out, and `tls` how to reach a server that has TLS; without it nothing is
    encrypted. `caller` names who calls, where a rollout answers some callers before the others; else the token does, or
    the address.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout_s: float | None = 30.0,
        retries: Retries = DEFAULT_RETRIES,
        caller: str = "",
        token: str = "",
        tls: Tls | None = None,
    ) -> None:
        self.address = address
        self._own_metadata = call_metadata(caller, token)
        self._timeout_s = timeout_s
        self._retries = retries
        self._budget = RetryBudget(retries.budget)
        self._throttle = Throttle()
        if tls is None:
            self._channel = grpc.insecure_channel(address, CHANNEL_OPTIONS)
        else:
            self._channel = grpc.secure_channel(address, tls.credentials(), tls.options())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection, and with it every call under way."""
        self._channel.close()

    def search(self, query: Query, *, collection: str = DEFAULT, **options: Unpack[SearchOptions]) -> SearchResult:
        """The items nearest to one query."""
        return self._run(operations.search(query, collection, options))

    def search_batch(
        self, queries: Sequence[Query], *, collection: str = DEFAULT, **options: Unpack[SearchOptions]
    ) -> BatchResult:
        """The items nearest to each of 1 to 256 queries; one bad query does not fail the others.

        InvalidRequest where the queries, times offset and limit together, are more than 100,000.
        """
        return self._run(operations.search_batch(queries, collection, options))

    def search_stream(
        self,
        queries: Iterable[tuple[str, Query]],
        *,
        collection: str = DEFAULT,
        **options: Unpack[SearchOptions],
    ) -> Generator[tuple[str, SearchResult | PspsearchError]]:
        """Answers as they are ready, in any order, each with the tag of its query.

        The queries are taken in another thread, as fast as the server reads. A stream that breaks raises.
        """
        failures: list[BaseException] = []

        def requests() -> Iterator[searches.SearchStreamRequest]:
            try:
                for tag, query in queries:
                    request = operations.search_request(query, collection, options)
                    yield searches.SearchStreamRequest(tag=tag, request=request)
            except BaseException as error:
                if not is_callers(error):
                    raise
                failures.append(error)

        method = self._channel.stream_stream(
            operations.SEARCH_STREAM,
            searches.SearchStreamRequest.SerializeToString,
            searches.SearchStreamResponse.FromString,
        )
        try:
            with streaming(method, requests(), self._metadata) as responses:
                for message in responses:
                    yield read_streamed(message)
        except grpc.RpcError as failure:
            raise call_error(failure, self.address) from failure
        if failures:
            raise failures[0]

    def compare(
        self, left: Query, right: Query, *, threshold: float | None = None, collection: str = DEFAULT
    ) -> Comparison:
        """How alike two things are, and whether they are the same at a threshold."""
        return self._run(operations.compare(left, right, collection, threshold))

    def describe(self, image: Path | bytes, *, collection: str = DEFAULT) -> Description:
        """An image's descriptor, which can be sent back as a query."""
        return self._run(operations.describe(image, collection))

    def recommend(
        self,
        positives: Sequence[Query],
        negatives: Sequence[Query] = (),
        *,
        collection: str = DEFAULT,
        **options: Unpack[SearchOptions],
    ) -> SearchResult:
        """The items that are near to some examples and far from others."""
        return self._run(operations.recommend(positives, negatives, collection, options))

    def upsert(self, inputs: Sequence[ItemInput], *, collection: str = DEFAULT) -> tuple[Acknowledgement, ...]:
        """Puts in or replaces 1 to 256 items, acknowledged in their order; one bad item does not fail the others."""
        return self._run(operations.upsert(inputs, collection))

    def ingest(
        self,
        inputs: Iterable[ItemInput],
        *,
        collection: str = DEFAULT,
        max_unacknowledged: int = MAX_UNACKNOWLEDGED,
        max_unacknowledged_bytes: int = MAX_UNACKNOWLEDGED_BYTES,
    ) -> Generator[Acknowledgement]:
        """Puts in or replaces any number of items: one acknowledgement for each, in any order.

        The items are taken, and their files read, in another thread, and no faster than the server acknowledges them:
        at most `max_unacknowledged` are under way, and no two of one id. A stream that breaks is begun anew, with what
        was not acknowledged; an item that was in already is then `UNCHANGED`.
        """
        method = self._channel.stream_stream(
            operations.INGEST_ITEMS, items.IngestItemsRequest.SerializeToString, items.IngestItemsResponse.FromString
        )
        window = Window(collection, max_unacknowledged, max_unacknowledged_bytes)
        attempts = Attempts(self._retries, self._budget, None, repeatable=True)
        return Ingest(method, self._metadata, window, attempts, self.address).run(inputs)

    def get(self, item_id: str, *, descriptor: bool = False, collection: str = DEFAULT) -> Item:
        """One item; NotFound where there is none."""
        return self._run(operations.get(item_id, collection, descriptor=descriptor))

    def get_image(self, item_id: str, *, collection: str = DEFAULT) -> bytes:
        """The encoded bytes of an item's image; NotFound where they were not kept."""
        return self._run(operations.get_image(item_id, collection))

    def delete(self, ids: Sequence[str] = (), *, filter: str = "", collection: str = DEFAULT) -> int:  # noqa: A002 - the API's word
        """Takes items out, by id or by filter (`*` for all), and says how many there were."""
        return self._run(operations.delete(ids, filter, collection))

    def list(
        self,
        *,
        filter: str = "",  # noqa: A002 - the API's word
        not_in_generation: int = 0,
        page_size: int = 100,
        collection: str = DEFAULT,
    ) -> Generator[Item]:
        """All items in the order in which they were first put in, read page by page.

        Or those that the filter holds for, or that have no descriptor in a generation.
        """
        token = ""
        while True:
            page, token = self._run(operations.list_page(filter, page_size, token, collection, not_in_generation))
            yield from page
            if not token:
                return

    def count(self, *, filter: str = "", collection: str = DEFAULT) -> int:  # noqa: A002 - the API's word
        """How many items there are."""
        return self._run(operations.count(filter, collection))

    def create_collection(
        self,
        name: str,
        *,
        model: str = "",
        keep_images: bool = True,
        index_kind: IndexKind = IndexKind.AUTO,
        target_recall: float = 0.95,
    ) -> Collection:
        """Makes an empty collection, under the server's default model where none is named."""
        return self._run(
            operations.create_collection(
                name, model, keep_images=keep_images, index_kind=index_kind, target_recall=target_recall
            )
        )

    def get_collection(self, name: str = DEFAULT) -> Collection:
        """One collection with its state."""
        return self._run(operations.get_collection(name))

    def list_collections(self) -> tuple[Collection, ...]:
        """All collections, by name."""
        return self._run(operations.list_collections())

    def delete_collection(self, name: str) -> int:
        """Deletes a collection with all that is in it, and says how many items that were."""
        return self._run(operations.delete_collection(name))

    def list_model_versions(self, model: str = "") -> tuple[ModelVersion, ...]:
        """Looks into the model repository now, and lists the versions of a model, the server's default for none."""
        return self._run(operations.list_model_versions(model))

    def start_rollout(
        self,
        version: int = 0,
        *,
        collection: str = DEFAULT,
        share: float = 0.5,
        automatic: bool = False,
        drop_missing: bool = False,
        canary: float = 0.0,
        shadow: float = 0.0,
    ) -> Rollout:
        """Begins to take a collection to a version of its model, the highest that can be used for 0.

        Describing its images takes at most a `share` of the model's time. An `automatic` one is promoted as soon as it
        has passed its checks; with `drop_missing` also where items cannot be described. `canary` and `shadow` are as in
        `try_rollout`.
        """
        return self._run(
            operations.start_rollout(
                collection,
                version,
                share=share,
                automatic=automatic,
                drop_missing=drop_missing,
                canary=canary,
                shadow=shadow,
            )
        )

    def get_rollout(self, *, collection: str = DEFAULT) -> Rollout:
        """The rollout under way, or the last one that ended."""
        return self._run(operations.get_rollout(collection))

    def watch_rollout(self, *, collection: str = DEFAULT) -> Generator[Rollout]:
        """The rollout with every change, until it has ended. A stream that breaks raises."""
        method = self._channel.unary_stream(
            operations.WATCH_ROLLOUT,
            models.WatchRolloutRequest.SerializeToString,
            models.WatchRolloutResponse.FromString,
        )
        call = method(models.WatchRolloutRequest(collection=collection), metadata=self._metadata)
        try:
            for message in call:
                yield read_rollout(message.rollout)
        except grpc.RpcError as failure:
            raise call_error(failure, self.address) from failure
        finally:
            call.cancel()

    def try_rollout(self, *, collection: str = DEFAULT, canary: float = 0.0, shadow: float = 0.0) -> Rollout:
        """Lets a rollout answer a share of callers, and be compared on a share of other searches, once it is ready."""
        return self._run(operations.try_rollout(collection, canary=canary, shadow=shadow))

    def promote_rollout(self, *, collection: str = DEFAULT, drop_missing: bool = False) -> Rollout:
        """Makes a rollout that is ready the one that answers."""
        return self._run(operations.promote_rollout(collection, drop_missing=drop_missing))

    def abort_rollout(self, *, collection: str = DEFAULT) -> Rollout:
        """Ends the rollout under way."""
        return self._run(operations.abort_rollout(collection))

    def rollback(self, *, collection: str = DEFAULT) -> Origin:
        """Makes the kept generation answer again, and returns it."""
        return self._run(operations.rollback(collection))

    def retire_generation(self, *, collection: str = DEFAULT) -> Origin:
        """Lets go of the kept generation, and returns it."""
        return self._run(operations.retire_generation(collection))

    def follow_model(self, *, collection: str = DEFAULT, follow: bool = True) -> Collection:
        """Sets whether a collection is taken to new versions of its model by itself."""
        return self._run(operations.follow_model(collection, follow=follow))

    def list_generations(self, *, collection: str = DEFAULT) -> tuple[Generation, ...]:
        """The generations of a collection, living and ended."""
        return self._run(operations.list_generations(collection))

    def status(self) -> ServerStatus:
        """How the server stands."""
        return self._run(operations.server_status())

    @property
    def _metadata(self) -> tuple[tuple[str, str], ...]:
        """Of a call now: what goes on with the caller's trace is with it."""
        return (*self._own_metadata, *traces.headers())

    def _run(self, operation: Operation[Response, Answer]) -> Answer:
        call = self._channel.unary_unary(
            operation.path, type(operation.request).SerializeToString, operation.response.FromString
        )
        attempts = Attempts(self._retries, self._budget, self._timeout_s, repeatable=operation.repeatable)
        with self._throttle.call():
            while True:
                try:
                    response = call(operation.request, timeout=attempts.remaining_s(), metadata=self._metadata)
                except grpc.RpcError as failure:
                    error = call_error(failure, self.address)
                    unavailable = failure.code() is grpc.StatusCode.UNAVAILABLE
                    pause_s = attempts.pause_s() if unavailable else None
                    if pause_s is None:
                        raise error from failure
                    time.sleep(pause_s)
                else:
                    attempts.succeed()
                    return operation.read(response)
