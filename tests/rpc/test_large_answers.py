"""Answers with very many hits, which are bounded before the work and made outside the event loop."""

import threading
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from pspsearch.domain import Descriptors, Found
from pspsearch.filters import Filter
from pspsearch.rpc import kserve_service, search_service
from pspsearch.search import pages, searcher
from pspsearch.search.pages import HITS_AT_ONCE
from pspsearch.v1 import item_service_pb2 as items
from pspsearch.v1 import search_service_pb2 as searches
from tests.fakes.describer import DIMENSION, VERSION
from tests.fakes.index import MemoryIndex
from tests.servers.rpc_client import Api, descriptor, open_api, query, refuse

POINT = query(descriptor=descriptor(np.eye(DIMENSION)[0]))
MANY = HITS_AT_ONCE + 1
"""How many items there are, all alike."""


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    """A server with many items of one kind."""
    async with open_api() as api:
        some = [
            items.ItemInput(id=f"{number}", descriptor=POINT.descriptor, attributes_json='{"kind": "same"}')
            for number in range(MANY)
        ]
        await api.fill(*some[:200])
        await api.fill(*some[200:])
        yield api


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What the index is asked for: the number of queries, and of rows for each."""
    calls: list[tuple[int, int]] = []

    async def search(self: MemoryIndex, queries: Descriptors, count: int, keep: Filter | None = None) -> list[Found]:
        calls.append((len(queries), count))
        return await plain(self, queries, count, keep)

    plain = MemoryIndex.search
    monkeypatch.setattr(MemoryIndex, "search", search)
    return calls


def batch(queries: int, **options: Any) -> searches.BatchSearchRequest:
    """The same query many times."""
    return searches.BatchSearchRequest(queries=[POINT] * queries, options=searches.SearchOptions(**options))


def infer(queries: int, limit: int, offset: int = 0) -> service_pb2.ModelInferRequest:
    """The same queries in Triton's protocol."""
    request = service_pb2.ModelInferRequest(model_name="search.default")
    request.parameters["limit"].int64_param = limit
    request.parameters["offset"].int64_param = offset
    request.parameters["fingerprint"].string_param = VERSION.contract.fingerprint
    tensor = service_pb2.ModelInferRequest.InferInputTensor
    request.inputs.append(tensor(name="DESCRIPTOR", datatype="FP32", shape=[queries, DIMENSION]))
    request.raw_input_contents.append(np.tile(np.eye(DIMENSION, dtype="<f4")[0], (queries, 1)).tobytes())
    return request


async def test_a_batch_looks_only_so_far_down(api: Api, asked: list[tuple[int, int]]) -> None:
    """Queries times depth is bounded, and too much is refused before the search."""
    words = "queries times offset and limit together, or rerank, are at most 100,000, not"
    await api.search.BatchSearch(batch(100, limit=1000))
    await api.search.BatchSearch(batch(10, limit=1000, offset=9000))
    assert asked == [(100, 1000), (10, 10_000)]
    asked.clear()

    for request in (batch(101, limit=1000), batch(11, limit=1, offset=9999), batch(256, limit=391)):
        refusal = await refuse(api.search.BatchSearch(request))
        assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
        assert words in refusal.status.message
    with pytest.raises(grpc.aio.AioRpcError, match=words):
        await service_pb2_grpc.GRPCInferenceServiceStub(api.channel).ModelInfer(infer(256, 1000, 9000))
    assert asked == []


async def test_queries_that_have_to_look_further_take_turns(
    api: Api, asked: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If better hits use up the rows, no more rows are held at once than for any batch."""
    monkeypatch.setattr(searcher, "MAX_BATCH_DEPTH", 600)

    answer = await api.search.BatchSearch(batch(20, limit=2, group_by="kind"))

    assert [len(one.hits) for one in answer.results] == [1] * 20
    assert max(rows for _, rows in asked) == 512
    assert all(queries * rows <= 600 for queries, rows in asked)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """Which functions make hits and messages, and whether they ran in the event loop."""
    calls: list[tuple[str, bool]] = []
    loop = threading.get_ident()

    def spy(function: Callable[..., Any], *given: Any) -> Any:
        calls.append((function.__name__, threading.get_ident() == loop))
        return function(*given)

    for module, name in (
        (pages, "_make_hits"),
        (search_service, "write_hits"),
        (kserve_service, "write_answer"),
    ):
        monkeypatch.setattr(module, name, partial(spy, getattr(module, name)))
    return calls


async def ask_in_each_way(api: Api, queries: int, limit: int) -> Sequence[int]:
    """Searches in each way, and returns how many hits each answer has."""
    options = searches.SearchOptions(limit=limit)
    alone = await api.search.Search(searches.SearchRequest(query=POINT, options=options))
    advised = await api.search.Recommend(searches.RecommendRequest(positives=[POINT], options=options))
    together = await api.search.BatchSearch(batch(queries, limit=limit))
    tensors = await service_pb2_grpc.GRPCInferenceServiceStub(api.channel).ModelInfer(infer(queries, limit))
    return [
        len(alone.hits),
        len(advised.hits),
        *(len(one.hits) for one in together.results),
        tensors.outputs[0].shape[1],
    ]


async def test_many_hits_are_made_and_written_in_other_threads(api: Api, made: list[tuple[str, bool]]) -> None:
    """This is so for one query, for several, and in Triton's protocol."""
    assert await ask_in_each_way(api, 3, 1000) == [MANY] * 6

    names = [name for name, _ in made]
    assert [names.count(name) for name in ("_make_hits", "write_hits", "write_answer")] == [4, 5, 1]
    assert not any(in_loop for _, in_loop in made)


async def test_few_hits_need_no_other_thread(api: Api, made: list[tuple[str, bool]]) -> None:
    """A usual search stays in the event loop."""
    assert await ask_in_each_way(api, 3, 10) == [10] * 6

    assert all(in_loop for _, in_loop in made)


async def test_rows_that_nobody_asked_for_become_nothing(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """If nothing is set apart, only the rows of the page are made into hits."""
    monkeypatch.setattr(searcher, "rank", None)
    request = searches.SearchRequest(query=query(id="5"), options=searches.SearchOptions(limit=3, offset=4))

    answer = await api.search.Search(request)

    assert [hit.id for hit in answer.hits] == ["4", "6", "7"]
