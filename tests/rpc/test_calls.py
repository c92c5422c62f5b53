"""What every call goes through: admission, request ids, deadlines, errors, and the server's shutdown."""

import asyncio
import gc
import logging
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2

from pspsearch.errors import CatalogDamaged, PspsearchError, TritonUnavailable
from pspsearch.rpc.admission import Visitor
from pspsearch.v1 import item_service_pb2 as items
from pspsearch.v1 import resources_pb2 as resources
from pspsearch.v1 import search_service_pb2 as searches
from tests.servers.rpc_client import TEMPLE, Api, Refusal, assert_nothing_escaped, check, open_api, query, refuse

PATIENCE_S = 30
"""How long a test waits for something that should happen at once."""
DESCRIBE = searches.DescribeRequest(image=TEMPLE)
DESCRIPTOR = resources.Descriptor(values=[1])
"""A descriptor of a space that the server does not have."""
SEARCH = searches.SearchRequest(query=searches.Query(image=b"no image"))


@pytest.fixture(autouse=True)
def nothing_escapes(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No test may let an exception escape."""
    yield
    assert_nothing_escaped(caplog)


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    """A server that lets one call in at a time."""
    async with open_api(max_calls=1) as api:
        yield api


async def begin(api: Api, **options: Any) -> "grpc.aio.UnaryUnaryCall[Any, searches.DescribeResponse]":
    """Begins a call that waits in the model."""
    api.server.describer.may_answer.clear()
    call = api.search.Describe(DESCRIBE, **options)
    await asyncio.wait_for(api.server.describer.entered.wait(), PATIENCE_S)
    return call


async def become_idle(api: Api) -> None:
    """Waits until no call is under way."""
    await asyncio.wait_for(api.server.rpc.admission.idle.wait(), PATIENCE_S)
    assert api.server.rpc.admission.in_flight == 0


async def test_request_id_comes_back(api: Api) -> None:
    """It is in answers and errors, so that both sides can name the call."""
    good = api.search.Describe(DESCRIBE, metadata=(("x-request-id", "mine-7"),))
    await good
    bad = api.search.Describe(searches.DescribeRequest(), metadata=(("x-request-id", "mine-8"),))
    refusal = await refuse(bad)

    assert (await good.trailing_metadata())["x-request-id"] == "mine-7"
    assert refusal.detail(error_details_pb2.RequestInfo).request_id == "mine-8"


@pytest.mark.parametrize("given", ["", "with space", "x" * 65])
async def test_unfit_request_id_is_replaced(api: Api, given: str) -> None:
    """It goes into logs and answers, so it must be harmless."""
    call = api.search.Describe(DESCRIBE, metadata=(("x-request-id", given),))
    await call
    answered = (await call.trailing_metadata())["x-request-id"]

    assert answered != given
    assert len(answered) == 16


async def test_overload_is_answered_at_once(api: Api) -> None:
    """The refusal says when to retry. The call under way continues, and so does the server's health."""
    first = await begin(api)
    refusal = await refuse(api.search.Describe(DESCRIBE))
    health = (await check(api.channel)).status
    api.server.describer.may_answer.set()

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert refusal.detail(error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() > 0
    assert health == health_pb2.HealthCheckResponse.SERVING
    assert len((await first).descriptor.values) > 0
    assert len((await api.search.Describe(DESCRIBE)).descriptor.values) > 0


async def test_open_stream_counts_as_a_call(api: Api) -> None:
    """It counts as long as it is open."""
    stream = api.search.SearchStream()
    await stream.write(searches.SearchStreamRequest(tag="a"))
    await stream.read()
    refusal = await refuse(api.search.Describe(DESCRIBE))
    await stream.done_writing()
    await stream.read()
    await become_idle(api)

    assert refusal.reason == "OVERLOADED"
    assert len((await api.search.Describe(DESCRIBE)).descriptor.values) > 0


async def test_deadline_ends_the_call_and_its_work(api: Api) -> None:
    """The caller gets the error, the model was told the time limit, and no work is left behind."""
    call = await begin(api, timeout=0.5)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    await become_idle(api)

    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    given = api.server.describer.timeout_s
    assert given is not None
    assert 0 < given <= 0.51  # gRPC tells the time that is left by another clock


async def test_call_without_deadline_may_take_its_time(api: Api) -> None:
    """The server does not make up a deadline."""
    await api.search.Describe(DESCRIBE)

    assert api.server.describer.timeout_s is None


async def test_cancelled_call_leaves_no_work(api: Api) -> None:
    """Its place is free for the next one."""
    call = await begin(api)
    call.cancel()
    await become_idle(api)
    api.server.describer.may_answer.set()

    assert len((await api.search.Describe(DESCRIBE)).descriptor.values) > 0


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RuntimeError("secret"), grpc.StatusCode.INTERNAL),
        (CatalogDamaged("secret"), grpc.StatusCode.DATA_LOSS),
    ],
)
async def test_inner_failure_is_logged_and_not_told(
    api: Api, caplog: pytest.LogCaptureFixture, error: Exception, code: grpc.StatusCode
) -> None:
    """The caller gets the request id. The log has one line with it, and a traceback if it is a bug."""
    api.server.describer.failure = error
    refusal = await refuse(api.search.Describe(DESCRIBE))

    request_id = refusal.detail(error_details_pb2.RequestInfo).request_id
    assert refusal.code is code
    assert b"secret" not in refusal.status.SerializeToString()
    (record,) = [record for record in caplog.records if record.levelno >= logging.INFO]
    assert (record.levelno, vars(record)["request_id"], "secret" in record.message) == (logging.ERROR, request_id, True)
    trace = record.exc_info and record.exc_info[1]
    assert trace is (None if isinstance(error, CatalogDamaged) else error)


async def test_inner_failure_of_a_batch_or_a_stream_is_logged_too(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    """The status alone would not say enough to find the cause."""
    api.server.describer.failure = RuntimeError("secret")
    stream = api.search.SearchStream()
    request = searches.SearchRequest(query=query(image=TEMPLE))
    await stream.write(searches.SearchStreamRequest(tag="a", request=request))
    answer = await stream.read()
    stream.cancel()

    assert isinstance(answer, searches.SearchStreamResponse)
    refusal = Refusal(answer.status)
    assert (refusal.code, b"secret" in answer.SerializeToString()) == (grpc.StatusCode.INTERNAL, False)
    request_id = refusal.detail(error_details_pb2.RequestInfo).request_id
    assert [vars(record).get("request_id") for record in caplog.records if "secret" in record.message] == [request_id]


async def test_callers_fault_is_one_line_in_the_log(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    """The line has level INFO, fields for programs, and a limited length."""
    caplog.set_level(logging.INFO, "pspsearch.rpc")
    request = searches.SearchRequest(collection="x" * 100_000, query=query(id="a"))
    refusal = await refuse(api.search.Search(request))

    (record,) = caplog.records
    assert (record.levelno, record.exc_info) == (logging.INFO, None)
    told = {name: getattr(record, name) for name in ("method", "code", "request_id")}
    request_id = refusal.detail(error_details_pb2.RequestInfo).request_id
    assert told == {"method": "Search", "code": "NOT_FOUND", "request_id": request_id}
    assert len(record.message) < 1000


async def test_triton_away_is_unavailable(api: Api) -> None:
    """The code says that the same call may succeed later."""
    api.server.describer.failure = TritonUnavailable("Triton cannot be reached")
    refusal = await refuse(api.search.Describe(DESCRIBE))

    assert (refusal.code, refusal.status.message) == (grpc.StatusCode.UNAVAILABLE, "Triton cannot be reached")
    assert refusal.detail(error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() > 0


async def test_draining_server_finishes_calls_and_refuses_new_ones(api: Api) -> None:
    """The calls under way get their answers before the server closes."""
    first = await begin(api)
    draining = asyncio.create_task(api.server.rpc.drain())
    refusal = await refuse(api.search.Describe(DESCRIBE))
    api.server.describer.may_answer.set()
    answer = await first
    await asyncio.wait_for(draining, PATIENCE_S)

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "NOT_SERVING")
    assert len(answer.descriptor.values) > 0
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await api.search.Describe(DESCRIBE)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_call_that_outlasts_the_drain_is_cancelled() -> None:
    """The server ends nevertheless, and leaves no work behind."""
    async with open_api(drain_s=0.1) as api:
        call = await begin(api)
        await asyncio.wait_for(api.server.rpc.drain(), PATIENCE_S)

        with pytest.raises(grpc.aio.AioRpcError):
            await call
        assert api.server.rpc.admission.in_flight == 0


@pytest.mark.parametrize(
    ("method", "content"),
    [
        ("SearchService/Describe", searches.DescribeRequest(collection="nowhere", image=bytes(1000))),
        ("SearchService/Describe", b"no request"),
        ("SearchService/SearchStream", b"no request"),
        ("ItemService/IngestItems", items.IngestItemsRequest(collection="nowhere")),
    ],
)
async def test_refused_call_is_not_kept(api: Api, method: str, content: Message | bytes) -> None:
    """Neither the call nor its request waits for the garbage collector, which may come late."""
    sent = content if isinstance(content, bytes) else content.SerializeToString()
    call = cast("Any", api.channel.stream_stream(f"/pspsearch.v1.{method}"))

    def visitors() -> int:
        return sum(type(one) is Visitor for one in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            with pytest.raises(grpc.aio.AioRpcError):
                [_ async for _ in call(iter([sent]))]
            await become_idle(api)
        async with asyncio.timeout(PATIENCE_S):
            while visitors():
                await asyncio.sleep(0.01)
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("SearchService/BatchSearch", searches.BatchSearchRequest(queries=[query(id="x" * 1000)])),
        ("SearchService/BatchSearch", searches.BatchSearchRequest(queries=[query(image=b"no image")])),
        ("SearchService/BatchSearch", searches.BatchSearchRequest(queries=[query(descriptor=DESCRIPTOR)])),
        ("SearchService/SearchStream", searches.SearchStreamRequest(request=SEARCH)),
        ("ItemService/UpsertItems", items.UpsertItemsRequest(items=[items.ItemInput(id="x" * 1000)])),
        ("ItemService/UpsertItems", items.UpsertItemsRequest(items=[items.ItemInput(id="a", image=b"no image")])),
        ("ItemService/UpsertItems", items.UpsertItemsRequest(items=[items.ItemInput(id="a", image=TEMPLE[:999])])),
        ("ItemService/UpsertItems", items.UpsertItemsRequest(items=[items.ItemInput(id="a", attributes_json="{")])),
        ("ItemService/UpsertItems", items.UpsertItemsRequest(items=[items.ItemInput(id="a", descriptor=DESCRIPTOR)])),
        ("ItemService/IngestItems", items.IngestItemsRequest(item=items.ItemInput(id="a", image=b"no image"))),
    ],
)
async def test_request_that_fails_in_part_is_not_kept(api: Api, method: str, request_: Message) -> None:
    """The error in its answer refers to nothing that would have to wait for the garbage collector."""
    call = cast("Any", api.channel.stream_stream(f"/pspsearch.v1.{method}"))
    gc.collect()
    gc.disable()
    try:
        answers = [answer async for answer in call(iter([request_.SerializeToString()]))]
        await become_idle(api)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        kept = [one for one in gc.garbage if isinstance(one, PspsearchError)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()

    assert len(answers) == 1
    assert kept == []


class _Gone:
    """The context of a call whose caller left before its error was sent, which gRPC reports only at the sending."""

    def time_remaining(self) -> float | None:
        return None

    def invocation_metadata(self) -> tuple[()]:
        return ()

    def set_trailing_metadata(self, _: object) -> None:
        pass

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def peer_identities(self) -> None:
        return None

    async def abort(self, *_: object) -> None:
        raise grpc.aio.InternalError("Failed to execute a batch")


async def test_error_for_a_caller_who_is_gone_is_no_failure(api: Api) -> None:
    """The call ends as cancelled. gRPC would log any other end with a traceback, for each of thousands of calls."""
    with pytest.raises(asyncio.CancelledError):
        await fail(api, _Gone())


async def test_call_of_a_caller_who_is_gone_is_not_kept(api: Api) -> None:
    """It is released like any other refused call."""
    context = _Gone()
    kept = weakref.ref(context)
    gc.collect()
    gc.disable()
    try:
        calling = asyncio.create_task(fail(api, context))
        del context
        await asyncio.wait([calling])
        del calling
        await asyncio.sleep(0)  # lets the task end

        assert kept() is None
    finally:
        gc.enable()


async def fail(api: Api, context: _Gone) -> None:
    """Fails a call with this context."""
    async with api.server.rpc.admission.enter("Describe", cast("Any", context), is_stream=False):
        raise TritonUnavailable("it is away")
