"""Triton's own protocol, KServe v2. Each collection appears as a model, so Triton's clients and tools can search."""

import asyncio
import copy
import time
from dataclasses import dataclass
from importlib.metadata import version

from tritonclient.grpc import service_pb2

from pspsearch.call import Call, Stage
from pspsearch.callers.rights import MODEL_PREFIX
from pspsearch.domain import Generation
from pspsearch.errors import NotFound, PspsearchError
from pspsearch.live.collections import Collections
from pspsearch.live.live import Live
from pspsearch.query import Hit, Options, Query
from pspsearch.rpc.admission import Admission, Visitor
from pspsearch.rpc.kserve_tensors import (
    check_outputs,
    most_bytes,
    prepare_options,
    read_options,
    read_queries,
    write_answer,
    write_config,
    write_metadata,
)
from pspsearch.rpc.streams import Exchange, Requests, Turn
from pspsearch.search.pages import aside
from pspsearch.search.searcher import Searcher

_UNDER_WAY = 32
"""How many requests of one stream may be read and not yet answered."""

_Exchange = Exchange[service_pb2.ModelInferRequest]


@dataclass(slots=True)
class _Figures:
    """The statistics of one model version since the server started."""

    calls: int = 0
    failures: int = 0
    queries: int = 0
    last_ms: int = 0
    total_ns: int = 0
    failures_ns: int = 0
    queue_ns: int = 0
    input_ns: int = 0
    infer_ns: int = 0


class KserveService:
    """Answers searches and the questions that Triton's clients ask first.

    Triton's other methods (loading, shared memory, tracing) fail as UNIMPLEMENTED.
    """

    def __init__(self, admission: Admission, searcher: Searcher, collections: Collections) -> None:
        self._admission = admission
        self._searcher = searcher
        self._collections = collections
        self._figures: dict[tuple[str, int], _Figures] = {}

    async def ServerLive(self, _: service_pb2.ServerLiveRequest, visitor: Visitor) -> service_pb2.ServerLiveResponse:
        return service_pb2.ServerLiveResponse(live=True)

    async def ServerReady(self, _: service_pb2.ServerReadyRequest, visitor: Visitor) -> service_pb2.ServerReadyResponse:
        return service_pb2.ServerReadyResponse(ready=self._admission.open)

    async def ModelReady(
        self, request: service_pb2.ModelReadyRequest, visitor: Visitor
    ) -> service_pb2.ModelReadyResponse:
        try:
            self._find(request.name, request.version)
        except PspsearchError:
            return service_pb2.ModelReadyResponse(ready=False)
        return service_pb2.ModelReadyResponse(ready=self._admission.open)

    async def ServerMetadata(
        self, request: service_pb2.ServerMetadataRequest, visitor: Visitor
    ) -> service_pb2.ServerMetadataResponse:
        extensions = ["model_configuration", "statistics", "parameters"]
        return service_pb2.ServerMetadataResponse(name="pspsearch", version=version("pspsearch"), extensions=extensions)

    async def ModelMetadata(
        self, request: service_pb2.ModelMetadataRequest, visitor: Visitor
    ) -> service_pb2.ModelMetadataResponse:
        return write_metadata(request.name, self._find(request.name, request.version).generation)

    async def ModelConfig(
        self, request: service_pb2.ModelConfigRequest, visitor: Visitor
    ) -> service_pb2.ModelConfigResponse:
        config = write_config(request.name, self._find(request.name, request.version).generation)
        return service_pb2.ModelConfigResponse(config=config)

    async def RepositoryIndex(
        self, request: service_pb2.RepositoryIndexRequest, visitor: Visitor
    ) -> service_pb2.RepositoryIndexResponse:
        answer = service_pb2.RepositoryIndexResponse()
        for live in self._seen(visitor):
            name = MODEL_PREFIX + live.collection.name
            answer.models.add(name=name, version=str(live.generation.version), state="READY")
        return answer

    async def ModelStatistics(
        self, request: service_pb2.ModelStatisticsRequest, visitor: Visitor
    ) -> service_pb2.ModelStatisticsResponse:
        if request.name:
            self._find(request.name, "")
        there = {MODEL_PREFIX + live.collection.name for live in self._seen(visitor)}
        return service_pb2.ModelStatisticsResponse(
            model_stats=[
                _write_figures(name, number, figures)
                for (name, number), figures in sorted(self._figures.items())
                if name in there and request.name in ("", name) and request.version in ("", str(number))
            ]
        )

    async def ModelInfer(
        self, request: service_pb2.ModelInferRequest, visitor: Visitor
    ) -> service_pb2.ModelInferResponse:
        return await self._infer(request, visitor.call)

    async def ModelStreamInfer(self, requests: Requests[service_pb2.ModelInferRequest], visitor: Visitor) -> None:
        exchange = _Exchange(requests, _UNDER_WAY, visitor.quota, most_bytes)
        await exchange.run(self._answer_all(exchange, visitor), visitor.context.write)

    async def _answer_all(self, exchange: _Exchange, visitor: Visitor) -> None:
        """Works on the requests concurrently, and answers in their order as Triton does."""
        order = asyncio.Queue[tuple[Turn[service_pb2.ModelInferRequest], asyncio.Task[bytes]] | None]()

        async def send() -> None:
            while (next_one := await order.get()) is not None:
                turn, task = next_one
                exchange.answer(turn, await task)
                del next_one, turn, task

        async with asyncio.TaskGroup() as group:
            group.create_task(send())
            async for turn in exchange.turns():
                order.put_nowait((turn, group.create_task(self._answer(turn.request, visitor))))
            order.put_nowait(None)

    async def _answer(self, request: service_pb2.ModelInferRequest, visitor: Visitor) -> bytes:
        """The answer to one request; an error becomes an answer, so the stream continues."""
        stream = visitor.call
        call = stream.within()
        try:
            await self._admission.check_next("ModelStreamInfer", visitor, request)
            call.begin(stream.remaining_s())
            answer = service_pb2.ModelStreamInferResponse(infer_response=await self._infer(request, call))
        except Exception as error:
            status = self._admission.explain("ModelStreamInfer", error, call)
            answer = service_pb2.ModelStreamInferResponse(error_message=status.message)
            answer.infer_response.id = request.id
        self._admission.metrics.count_stages(call)
        return answer.SerializeToString()

    async def _infer(self, request: service_pb2.ModelInferRequest, call: Call) -> service_pb2.ModelInferResponse:
        live = self._find(request.model_name, request.model_version)
        try:
            check_outputs(request)
            await prepare_options(request)
            options, queries = read_options(request), read_queries(request, live.generation)
            call.version = int(request.model_version) if request.model_version else None
            hits, generation = await self._search(live.collection.name, queries, options, call)
        except Exception:
            figures = self._of(request.model_name, live.generation)
            figures.failures += 1
            figures.failures_ns += int(call.elapsed_s() * 1e9)
            raise
        answer = await aside(sum(map(len, hits)), write_answer, request, hits, generation)
        _count(self._of(request.model_name, generation), len(queries), call)
        return answer

    def _of(self, name: str, generation: Generation) -> _Figures:
        return self._figures.setdefault((name, generation.version), _Figures())

    async def _search(
        self, collection: str, queries: list[Query], options: Options, call: Call
    ) -> tuple[list[list[Hit]], Generation]:
        """Answers all queries or none, as Triton does."""
        if len(queries) == 1:
            one = await self._searcher.search(collection, queries[0], options, call)
            return [one.hits], one.generation
        answer = await self._searcher.search_batch(collection, queries, options, call)
        for hits in answer.hits:
            if isinstance(hits, PspsearchError):
                raise copy.copy(hits)
        return [hits for hits in answer.hits if isinstance(hits, list)], answer.generation

    def _seen(self, visitor: Visitor) -> list[Live]:
        """The collections that the caller may see."""
        return [live for live in self._collections.all() if visitor.access.sees(live.collection.name)]

    def _find(self, name: str, number: str) -> Live:
        if not name.startswith(MODEL_PREFIX) or name == MODEL_PREFIX:
            raise NotFound(f"there is no model {name[:80]!r}: a collection's model is {MODEL_PREFIX}NAME")
        live = self._collections.get(name.removeprefix(MODEL_PREFIX))
        if number not in ("", str(live.generation.version)):
            raise NotFound(f"{name} answers in version {live.generation.version}, and not in {number[:20]!r}")
        return live


def _count(figures: _Figures, queries: int, call: Call) -> None:
    stages = {stage: int(1e6 * milliseconds) for stage, milliseconds in call.stages_ms.items()}
    figures.calls += 1
    figures.queries += queries
    figures.last_ms = int(time.time() * 1000)
    figures.total_ns += int(call.elapsed_s() * 1e9)
    figures.queue_ns += stages[Stage.QUEUE]
    figures.input_ns += stages[Stage.DECODE]
    figures.infer_ns += stages[Stage.INFERENCE] + stages[Stage.SEARCH]


def _write_figures(name: str, number: int, figures: _Figures) -> service_pb2.ModelStatistics:
    """Writes the statistics. Time that no stage accounts for counts as output: the answer was written in it."""
    count = figures.calls
    output_ns = figures.total_ns - figures.queue_ns - figures.input_ns - figures.infer_ns
    duration = service_pb2.StatisticDuration
    return service_pb2.ModelStatistics(
        name=name,
        version=str(number),
        last_inference=figures.last_ms,
        inference_count=figures.queries,
        execution_count=count,
        inference_stats=service_pb2.InferStatistics(
            success=duration(count=count, ns=figures.total_ns),
            fail=duration(count=figures.failures, ns=figures.failures_ns),
            queue=duration(count=count, ns=figures.queue_ns),
            compute_input=duration(count=count, ns=figures.input_ns),
            compute_infer=duration(count=count, ns=figures.infer_ns),
            compute_output=duration(count=count, ns=max(0, output_ns)),
        ),
    )
