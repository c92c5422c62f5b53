"""What filters cost the server that parses them."""

import itertools
import threading
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from google.protobuf.message import Message
from lark import Lark
from tritonclient.grpc import service_pb2, service_pb2_grpc

from pspsearch.v1 import item_service_pb2 as items
from pspsearch.v1 import search_service_pb2 as searches
from tests.servers.rpc_client import TEMPLE, Api, item, open_api, query, refuse

_numbers = itertools.count()


def long() -> str:
    """A long filter that is new each time and that every item here matches."""
    return "n=1 " * 500 + f"AND NOT m={next(_numbers)}"


def infer() -> service_pb2.ModelInferRequest:
    """A search in Triton's protocol."""
    request = service_pb2.ModelInferRequest(model_name="search.default")
    contents = service_pb2.InferTensorContents(bytes_contents=[TEMPLE])
    tensor = cast(Any, service_pb2.ModelInferRequest.InferInputTensor)
    request.inputs.extend([tensor(name="IMAGE", datatype="BYTES", shape=[1, 1], contents=contents)])
    request.parameters["filter"].string_param = long()
    return request


def stream() -> searches.SearchStreamRequest:
    """One search of a stream."""
    return searches.SearchStreamRequest(request=searches.SearchRequest(query=query(image=TEMPLE), options=options()))


def options() -> searches.SearchOptions:
    """Options with a new long filter."""
    return searches.SearchOptions(filter=long())


@pytest.fixture(scope="module")
async def api() -> AsyncIterator[Api]:
    """A server with one item."""
    async with open_api() as api:
        await api.fill(item("one", TEMPLE, '{"n": 1}'))
        yield api


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the threads in which filters were parsed."""
    names: list[str] = []
    parse = cast(Any, Lark.parse)

    def spy(*given: Any, **named: Any) -> Any:
        names.append(threading.current_thread().name)
        return parse(*given, **named)

    monkeypatch.setattr(Lark, "parse", spy)
    return names


@pytest.mark.parametrize(
    "request_",
    [
        searches.SearchRequest(query=query(image=TEMPLE), options=options()),
        searches.BatchSearchRequest(queries=[query(image=TEMPLE)], options=options()),
        searches.RecommendRequest(positives=[query(image=TEMPLE)], options=options()),
        items.ListItemsRequest(filter=long()),
        items.CountItemsRequest(filter=long()),
        items.DeleteItemsRequest(filter=long() + " AND n=2"),
    ],
    ids=lambda one: type(one).__name__,
)
async def test_a_long_filter_is_not_parsed_in_the_event_loop(api: Api, threads: list[str], request_: Message) -> None:
    """Parsing takes up to a tenth of a second, which would hold up all other calls."""
    await api.send(request_)

    assert len(threads) == 1
    assert threading.main_thread().name not in threads


async def test_nor_is_one_of_a_stream_or_in_tritons_protocol(api: Api, threads: list[str]) -> None:
    """These take other paths through the server."""
    (answer,) = [one async for one in api.search.SearchStream(iter([stream()]))]
    stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(api.channel)
    inferred = await stub.ModelInfer(infer())

    assert [hit.id for hit in answer.response.hits] == ["one"]
    assert inferred.outputs
    assert len(threads) == 2
    assert threading.main_thread().name not in threads


async def test_a_long_one_that_is_none_is_refused_as_any_other(api: Api, threads: list[str]) -> None:
    """The error names the position. A filter that is too long is not parsed at all."""
    bad = await refuse(api.items.CountItems(items.CountItemsRequest(filter=f"{long()} AND")))
    endless = await refuse(api.items.CountItems(items.CountItemsRequest(filter="n=1 " * 3000)))

    assert (bad.reason, endless.reason) == ("BAD_FILTER", "BAD_FILTER")
    assert "it ends" in bad.status.message
    assert "at most 8192 characters, not 12000" in endless.status.message
    assert len(threads) == 1
