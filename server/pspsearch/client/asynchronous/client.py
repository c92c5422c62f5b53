"""The client that awaits."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

import grpc

from pspsearch import traces
from pspsearch.client import operations
from pspsearch.client.answers import read_rollout, read_streamed
from pspsearch.client.asynchronous.ingest import AsyncIngest
from pspsearch.client.asynchronous.tasks import each, is_callers, load, load_all, load_items, streaming
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


class AsyncClient:
    """A connection to a pspsearch server, made with the first call. Close it, or use it as a context.

    Only the event loop that it is made in may use it.

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
            self._channel = grpc.aio.insecure_channel(address, CHANNEL_OPTIONS)
        else:
            self._channel = grpc.aio.secure_channel(address, tls.credentials(), tls.options())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connection, and with it every call under way."""
        await self._channel.close()

    async def search(
        self, query: Query, *, collection: str = DEFAULT, **options: Unpack[SearchOptions]
    ) -> SearchResult:
        """The items nearest to one query."""
        return await self._run(operations.search(await load(query), collection, options))

    async def search_batch(
        self, queries: Sequence[Query], *, collection: str = DEFAULT, **options: Unpack[SearchOptions]
    ) -> BatchResult:
        """The items nearest to each of 1 to 256 queries; one bad query does not fail the others.

        InvalidRequest where the queries, times offset and limit together, are more than 100,000.
        """
        return await self._run(operations.search_batch(await load_all(queries), collection, options))

    async def search_stream(
        self,
        queries: AsyncIterable[tuple[str, Query]] | Iterable[tuple[str, Query]],
        *,
        collection: str = DEFAULT,
        **options: Unpack[SearchOptions],
    ) -> AsyncGenerator[tuple[str, SearchResult | PspsearchError]]:
        """Answers as they are ready, in any order, each with the tag of its query.

        The queries are taken by another task, as fast as the server reads. A stream that breaks raises.
        """
        failures: list[BaseException] = []

        async def requests() -> AsyncIterator[searches.SearchStreamRequest]:
            try:
                async for tag, query in each(queries):
                    request = operations.search_request(await load(query), collection, options)
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
            async with streaming(method, requests(), self._metadata) as responses:
                async for message in responses:
                    yield read_streamed(message)
        except grpc.RpcError as failure:
            raise call_error(failure, self.address) from failure
        if failures:
            raise failures[0]

    async def compare(
        self, left: Query, right: Query, *, threshold: float | None = None, collection: str = DEFAULT
    ) -> Comparison:
        """How alike two things are, and whether they are the same at a threshold."""
        return await self._run(operations.compare(await load(left), await load(right), collection, threshold))

    async def describe(self, image: Path | bytes, *, collection: str = DEFAULT) -> Description:
        """An image's descriptor, which can be sent back as a query."""
        return await self._run(operations.describe(await load(image), collection))

    async def recommend(
        self,
        positives: Sequence[Query],
        negatives: Sequence[Query] = (),
        *,
        collection: str = DEFAULT,
        **options: Unpack[SearchOptions],
    ) -> SearchResult:
        """The items that are near to some examples and far from others."""
        return await self._run(
            operations.recommend(await load_all(positives), await load_all(negatives), collection, options)
        )

    async def upsert(self, inputs: Sequence[ItemInput], *, collection: str = DEFAULT) -> tuple[Acknowledgement, ...]:
        """Puts in or replaces 1 to 256 items, acknowledged in their order; one bad item does not fail the others."""
        return await self._run(operations.upsert(await load_items(inputs), collection))

    def ingest(
        self,
        inputs: AsyncIterable[ItemInput] | Iterable[ItemInput],
        *,
        collection: str = DEFAULT,
        max_unacknowledged: int = MAX_UNACKNOWLEDGED,
        max_unacknowledged_bytes: int = MAX_UNACKNOWLEDGED_BYTES,
    ) -> AsyncGenerator[Acknowledgement]:
        """Puts in or replaces any number of items: one acknowledgement for each, in any order.

        The items are taken, and their files read, by another task, and no faster than the server acknowledges them:
        at most `max_unacknowledged` are under way, and no two of one id. A stream that breaks is begun anew, with what
        was not acknowledged; an item that was in already is then `UNCHANGED`.
        """
        method = self._channel.stream_stream(
            operations.INGEST_ITEMS, items.IngestItemsRequest.SerializeToString, items.IngestItemsResponse.FromString
        )
        window = Window(collection, max_unacknowledged, max_unacknowledged_bytes)
        attempts = Attempts(self._retries, self._budget, None, repeatable=True)
        return AsyncIngest(method, self._metadata, window, attempts, self.address).run(inputs)

    async def get(self, item_id: str, *, descriptor: bool = False, collection: str = DEFAULT) -> Item:
        """One item; NotFound where there is none."""
        return await self._run(operations.get(item_id, collection, descriptor=descriptor))

    async def get_image(self, item_id: str, *, collection: str = DEFAULT) -> bytes:
        """The encoded bytes of an item's image; NotFound where they were not kept."""
        return await self._run(operations.get_image(item_id, collection))

    async def delete(self, ids: Sequence[str] = (), *, filter: str = "", collection: str = DEFAULT) -> int:  # noqa: A002 - the API's word
        """Takes items out, by id or by filter (`*` for all), and says how many there were."""
        return await self._run(operations.delete(ids, filter, collection))

    async def list(
        self,
        *,
        filter: str = "",  # noqa: A002 - the API's word
        not_in_generation: int = 0,
        page_size: int = 100,
        collection: str = DEFAULT,
    ) -> AsyncGenerator[Item]:
        """All items in the order in which they were first put in, read page by page.

        Or those that the filter holds for, or that have no descriptor in a generation.
        """
        token = ""
        while True:
            page, token = await self._run(operations.list_page(filter, page_size, token, collection, not_in_generation))
            for item in page:
                yield item
            if not token:
                return

    async def count(self, *, filter: str = "", collection: str = DEFAULT) -> int:  # noqa: A002 - the API's word
        """How many items there are."""
        return await self._run(operations.count(filter, collection))

    async def create_collection(
        self,
        name: str,
        *,
        model: str = "",
        keep_images: bool = True,
        index_kind: IndexKind = IndexKind.AUTO,
        target_recall: float = 0.95,
    ) -> Collection:
        """Makes an empty collection, under the server's default model where none is named."""
        return await self._run(
            operations.create_collection(
                name, model, keep_images=keep_images, index_kind=index_kind, target_recall=target_recall
            )
        )

    async def get_collection(self, name: str = DEFAULT) -> Collection:
        """One collection with its state."""
        return await self._run(operations.get_collection(name))

    async def list_collections(self) -> tuple[Collection, ...]:
        """All collections, by name."""
        return await self._run(operations.list_collections())

    async def delete_collection(self, name: str) -> int:
        """Deletes a collection with all that is in it, and says how many items that were."""
        return await self._run(operations.delete_collection(name))

    async def list_model_versions(self, model: str = "") -> tuple[ModelVersion, ...]:
        """Looks into the model repository now, and lists the versions of a model, the server's default for none."""
        return await self._run(operations.list_model_versions(model))

    async def start_rollout(
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
        return await self._run(
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

    async def get_rollout(self, *, collection: str = DEFAULT) -> Rollout:
        """The rollout under way, or the last one that ended."""
        return await self._run(operations.get_rollout(collection))

    async def watch_rollout(self, *, collection: str = DEFAULT) -> AsyncGenerator[Rollout]:
        """The rollout with every change, until it has ended. A stream that breaks raises."""
        method = self._channel.unary_stream(
            operations.WATCH_ROLLOUT,
            models.WatchRolloutRequest.SerializeToString,
            models.WatchRolloutResponse.FromString,
        )
        call = method(models.WatchRolloutRequest(collection=collection), metadata=self._metadata)
        try:
            async for message in call:
                yield read_rollout(message.rollout)
        except grpc.RpcError as failure:
            raise call_error(failure, self.address) from failure
        finally:
            call.cancel()

    async def try_rollout(self, *, collection: str = DEFAULT, canary: float = 0.0, shadow: float = 0.0) -> Rollout:
        """Lets a rollout answer a share of callers, and be compared on a share of other searches, once it is ready."""
        return await self._run(operations.try_rollout(collection, canary=canary, shadow=shadow))

    async def promote_rollout(self, *, collection: str = DEFAULT, drop_missing: bool = False) -> Rollout:
        """Makes a rollout that is ready the one that answers."""
        return await self._run(operations.promote_rollout(collection, drop_missing=drop_missing))

    async def abort_rollout(self, *, collection: str = DEFAULT) -> Rollout:
        """Ends the rollout under way."""
        return await self._run(operations.abort_rollout(collection))

    async def rollback(self, *, collection: str = DEFAULT) -> Origin:
        """Makes the kept generation answer again, and returns it."""
        return await self._run(operations.rollback(collection))

    async def retire_generation(self, *, collection: str = DEFAULT) -> Origin:
        """Lets go of the kept generation, and returns it."""
        return await self._run(operations.retire_generation(collection))

    async def follow_model(self, *, collection: str = DEFAULT, follow: bool = True) -> Collection:
        """Sets whether a collection is taken to new versions of its model by itself."""
        return await self._run(operations.follow_model(collection, follow=follow))

    async def list_generations(self, *, collection: str = DEFAULT) -> tuple[Generation, ...]:
        """The generations of a collection, living and ended."""
        return await self._run(operations.list_generations(collection))

    async def status(self) -> ServerStatus:
        """How the server stands."""
        return await self._run(operations.server_status())

    @property
    def _metadata(self) -> tuple[tuple[str, str], ...]:
        """Of a call now: what goes on with the caller's trace is with it."""
        return (*self._own_metadata, *traces.headers())

    async def _run(self, operation: Operation[Response, Answer]) -> Answer:
        call = self._channel.unary_unary(
            operation.path, type(operation.request).SerializeToString, operation.response.FromString
        )
        attempts = Attempts(self._retries, self._budget, self._timeout_s, repeatable=operation.repeatable)
        with self._throttle.call():
            while True:
                try:
                    response = await call(operation.request, timeout=attempts.remaining_s(), metadata=self._metadata)
                except grpc.RpcError as failure:
                    error = call_error(failure, self.address)
                    unavailable = failure.code() is grpc.StatusCode.UNAVAILABLE
                    pause_s = attempts.pause_s() if unavailable else None
                    if pause_s is None:
                        raise error from failure
                    await asyncio.sleep(pause_s)
                else:
                    attempts.succeed()
                    return operation.read(response)
