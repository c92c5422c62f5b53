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
    Explanation,
    Generation,
    Item,
    ItemInput,
    ModelVersion,
    Origin,
    Query,
    Region,
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
    """A connection to a pspsearch server, made at the first call. Close it, or use it as a context manager.

    Any thread may use it.

    Each call takes at most `timeout_s`, its retries included (None: no limit). The limit does not apply to streams.
    `token` comes from the server's operator. `tls` is for a server with TLS; without it nothing is encrypted. `caller`
    names you when a rollout answers some callers before the others; by default the token or the address does.
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
        """Closes the connection, which ends every call under way."""
        self._channel.close()

    def search(self, query: Query, *, collection: str = DEFAULT, **options: Unpack[SearchOptions]) -> SearchResult:
        """Finds the items nearest to one query."""
        return self._run(operations.search(query, collection, options))

    def search_batch(
        self, queries: Sequence[Query], *, collection: str = DEFAULT, **options: Unpack[SearchOptions]
    ) -> BatchResult:
        """Finds the items nearest to each of 1 to 256 queries. One bad query does not fail the others.

        Raises InvalidRequest if the number of queries times (offset + limit) exceeds 100,000.
        """
        return self._run(operations.search_batch(queries, collection, options))

    def search_stream(
        self,
        queries: Iterable[tuple[str, Query]],
        *,
        collection: str = DEFAULT,
        **options: Unpack[SearchOptions],
    ) -> Generator[tuple[str, SearchResult | PspsearchError]]:
        """Yields answers as they are ready, in any order, each with the tag of its query.

        The queries are read in another thread, as fast as the server reads them. A broken stream raises.
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
        """Says how similar two images, items or descriptors are, and whether the score reaches a threshold."""
        return self._run(operations.compare(left, right, collection, threshold))

    def explain(self, query: Query, item_id: str, *, collection: str = DEFAULT) -> Explanation:
        """Says which cells of the query's picture and of an item's give their score.

        Raises NotFound for an unknown id, ModelMismatch if the collection's model version describes no cells, and
        NoPicture if neither the query nor the item has a picture that was kept.
        """
        return self._run(operations.explain(query, item_id, collection))

    def describe(self, image: Path | bytes | Region, *, collection: str = DEFAULT) -> Description:
        """Describes an image, or a part of it. Its descriptor can be sent back as a query."""
        return self._run(operations.describe(image, collection))

    def recommend(
        self,
        positives: Sequence[Query],
        negatives: Sequence[Query] = (),
        *,
        collection: str = DEFAULT,
        **options: Unpack[SearchOptions],
    ) -> SearchResult:
        """Finds the items near to some examples and far from others."""
        return self._run(operations.recommend(positives, negatives, collection, options))

    def upsert(self, inputs: Sequence[ItemInput], *, collection: str = DEFAULT) -> tuple[Acknowledgement, ...]:
        """Puts in or replaces 1 to 256 items, and acknowledges each in order. One bad item does not fail the others."""
        return self._run(operations.upsert(inputs, collection))

    def ingest(
        self,
        inputs: Iterable[ItemInput],
        *,
        collection: str = DEFAULT,
        max_unacknowledged: int = MAX_UNACKNOWLEDGED,
        max_unacknowledged_bytes: int = MAX_UNACKNOWLEDGED_BYTES,
    ) -> Generator[Acknowledgement]:
        """Puts in or replaces any number of items, and yields one acknowledgement for each, in any order.

        The items and their files are read in another thread, no faster than the server acknowledges them: at most
        `max_unacknowledged` are under way, and no two with the same id. A broken stream is started again with the
        unacknowledged items; an item that was already stored is then `UNCHANGED`.
        """
        method = self._channel.stream_stream(
            operations.INGEST_ITEMS, items.IngestItemsRequest.SerializeToString, items.IngestItemsResponse.FromString
        )
        window = Window(collection, max_unacknowledged, max_unacknowledged_bytes)
        attempts = Attempts(self._retries, self._budget, None, repeatable=True)
        return Ingest(method, self._metadata, window, attempts, self.address).run(inputs)

    def get(self, item_id: str, *, descriptor: bool = False, collection: str = DEFAULT) -> Item:
        """Returns one item. Raises NotFound if there is none."""
        return self._run(operations.get(item_id, collection, descriptor=descriptor))

    def get_image(self, item_id: str, *, collection: str = DEFAULT) -> bytes:
        """Returns the encoded bytes of an item's image. Raises NotFound if they were not kept."""
        return self._run(operations.get_image(item_id, collection))

    def delete(self, ids: Sequence[str] = (), *, filter: str = "", collection: str = DEFAULT) -> int:  # noqa: A002 - the API's word
        """Deletes items by id or by filter (`*` for all), and returns how many there were."""
        return self._run(operations.delete(ids, filter, collection))

    def list(
        self,
        *,
        filter: str = "",  # noqa: A002 - the API's word
        not_in_generation: int = 0,
        page_size: int = 100,
        collection: str = DEFAULT,
    ) -> Generator[Item]:
        """Yields items in the order in which they were first put in, and reads them page by page.

        These are all items, those that match the filter, or those without a descriptor in a generation.
        """
        token = ""
        while True:
            page, token = self._run(operations.list_page(filter, page_size, token, collection, not_in_generation))
            yield from page
            if not token:
                return

    def count(self, *, filter: str = "", collection: str = DEFAULT) -> int:  # noqa: A002 - the API's word
        """Returns how many items there are, or how many match the filter."""
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
        """Creates an empty collection, with the server's default model if `model` is empty."""
        return self._run(
            operations.create_collection(
                name, model, keep_images=keep_images, index_kind=index_kind, target_recall=target_recall
            )
        )

    def get_collection(self, name: str = DEFAULT) -> Collection:
        """Returns one collection with its state."""
        return self._run(operations.get_collection(name))

    def list_collections(self) -> tuple[Collection, ...]:
        """Lists all collections, by name."""
        return self._run(operations.list_collections())

    def delete_collection(self, name: str) -> int:
        """Deletes a collection and everything in it, and returns how many items it had."""
        return self._run(operations.delete_collection(name))

    def list_model_versions(self, model: str = "") -> tuple[ModelVersion, ...]:
        """Makes the server load what is new in the model repository, and lists the versions of a model.

        An empty `model` means the server's default.
        """
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
        """Starts to move a collection to a version of its model; 0 means the highest usable one.

        Describing the images takes at most the `share` of the model's time. An `automatic` rollout is promoted as soon
        as it has passed its checks, and with `drop_missing` even if some items cannot be described. `canary` and
        `shadow` are as in `try_rollout`.
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
        """Returns the rollout under way, or the last one that ended."""
        return self._run(operations.get_rollout(collection))

    def watch_rollout(self, *, collection: str = DEFAULT) -> Generator[Rollout]:
        """Yields the rollout after every change, until it has ended. A broken stream raises."""
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
        """Lets a rollout, once it is ready, answer a share of callers and be compared on a share of other searches."""
        return self._run(operations.try_rollout(collection, canary=canary, shadow=shadow))

    def promote_rollout(self, *, collection: str = DEFAULT, drop_missing: bool = False) -> Rollout:
        """Makes the version that is ready the one that answers."""
        return self._run(operations.promote_rollout(collection, drop_missing=drop_missing))

    def abort_rollout(self, *, collection: str = DEFAULT) -> Rollout:
        """Ends the rollout under way."""
        return self._run(operations.abort_rollout(collection))

    def rollback(self, *, collection: str = DEFAULT) -> Origin:
        """Makes the kept generation answer again, and returns it."""
        return self._run(operations.rollback(collection))

    def retire_generation(self, *, collection: str = DEFAULT) -> Origin:
        """Drops the kept generation, and returns it."""
        return self._run(operations.retire_generation(collection))

    def follow_model(self, *, collection: str = DEFAULT, follow: bool = True) -> Collection:
        """Sets whether a collection moves to new versions of its model automatically."""
        return self._run(operations.follow_model(collection, follow=follow))

    def list_generations(self, *, collection: str = DEFAULT) -> tuple[Generation, ...]:
        """Lists the generations of a collection, present and past."""
        return self._run(operations.list_generations(collection))

    def status(self) -> ServerStatus:
        """Returns the state of the server."""
        return self._run(operations.server_status())

    @property
    def _metadata(self) -> tuple[tuple[str, str], ...]:
        """The headers of a call that starts now, including those that continue the caller's trace."""
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
