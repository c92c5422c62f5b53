"""Requests are checked against bounds before they are parsed, and no request is read before its caller is known."""

import asyncio
import gc
import itertools
import tracemalloc
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from tritonclient.grpc import service_pb2

from pspsearch.callers.access import Access, Right
from pspsearch.callers.tokens import create_token
from pspsearch.config import SecuritySettings
from pspsearch.errors import InvalidRequest
from pspsearch.rpc import public
from pspsearch.rpc.admission import Visitor
from pspsearch.rpc.bounds import BOUNDS
from pspsearch.rpc.door import Door
from pspsearch.rpc.wire import FIELDS_AT_ONCE, Shape
from pspsearch.v1 import item_service_pb2 as items
from pspsearch.v1 import resources_pb2 as resources
from pspsearch.v1 import search_service_pb2 as searches
from tests.excesses import METHODS, SERVICES, Target, paths, targets
from tests.pictures import encode, load_photo
from tests.servers.rpc_client import Api, check, open_api, refuse

PATIENCE_S = 10.0
EMPTY_QUERIES = b"\x12\0" * 250_000
"""Half a megabyte of empty queries for a BatchSearchRequest."""
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    """A server without items."""
    async with open_api() as api:
        yield api


def caller(api: Api, method: str) -> Any:
    """A channel that sends bytes as they are."""
    channel: Any = api.channel
    return channel.unary_unary(f"/pspsearch.v1.{method}")


def test_every_field_that_may_be_long_has_a_bound() -> None:
    """And no bound is for a field that no longer exists."""
    content = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)
    fields = {path[-1] for method in METHODS for path in paths(method.input_type)}
    wanted = {field.full_name for field in fields if field.is_repeated or field.type in content}

    assert wanted == BOUNDS.keys()
    assert len({target.method.name for target in targets()}) > 30


class Reached:
    """A servicer with every method, which counts the calls that reach it."""

    def __init__(self) -> None:
        self.methods: list[str] = []

    def __getattr__(self, name: str) -> Callable[[Any, Visitor], Any]:
        if name not in {method.name for method in METHODS}:
            raise AttributeError(name)
        (method,) = (method for method in METHODS if method.name == name)

        async def take(request: Any, _: Visitor) -> Any:
            if method.client_streaming:
                async for _one in request:
                    self.methods.append(name)
                return None
            self.methods.append(name)
            return None if method.server_streaming else GetMessageClass(method.output_type)()

        return take


@asynccontextmanager
async def open_door(api: Api, max_message_bytes: int) -> AsyncGenerator[tuple[grpc.aio.Channel, Reached]]:
    """A second server with the same admission and a servicer that only counts."""
    reached = Reached()
    server = grpc.aio.server(options=(("grpc.max_receive_message_length", max_message_bytes),))
    door = Door(api.server.rpc.admission, max_message_bytes)
    server.add_generic_rpc_handlers(tuple(door.open(service, reached) for service in SERVICES))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel, reached
    await server.stop(None)


async def send(channel: grpc.aio.Channel, target: Target, content: bytes) -> tuple[grpc.StatusCode, str]:
    """Sends a request, and returns the code and the details that the call ends with."""
    path = f"/{target.method.containing_service.full_name}/{target.method.name}"
    anything: Any = channel
    call = anything.stream_stream(path)(iter([content]))
    try:
        async for _ in call:
            pass
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""


async def test_nothing_beyond_a_bound_reaches_a_service(api: Api) -> None:
    """Each field is tried at its bound, one beyond, and a thousand times beyond if a message may be that large."""
    most_bytes, wrong, sent = 1 << 20, list[object](), 0
    async with open_door(api, most_bytes) as (channel, reached):
        for target in targets():
            bound = target.bound
            if bound is None or bound > target.most(most_bytes):
                continue  # the fault suite tries it with the largest messages
            for amount in {bound, bound + 1, min(1000 * bound, target.most(most_bytes))}:
                reached.methods.clear()
                code, words = await send(channel, target, target.write(amount))
                sent += 1
                good = (
                    (code, reached.methods) == (grpc.StatusCode.OK, [target.method.name])
                    if amount == bound
                    else (code, reached.methods) == (grpc.StatusCode.INVALID_ARGUMENT, [])
                    and words.startswith(f"{target.name} has ")
                    and f"at most {bound:,} are taken" in words
                )
                if not good:
                    wrong.append((target.method.name, target.name, amount, code, words, list(reached.methods)))

    assert wrong == []
    assert sent > 200


async def test_message_beyond_the_limit_reaches_no_service(api: Api) -> None:
    """One byte too many is refused with gRPC's own sentence, which names both sizes."""
    target = next(one for one in targets() if one.name == "DescribeRequest.image")
    most_bytes = 1 << 16
    async with open_door(api, most_bytes) as (channel, reached):
        full = target.write(target.most(most_bytes))
        code, words = await send(channel, target, full + b"\x0a\0" + bytes(most_bytes - len(full)))

        assert (code, reached.methods) == (grpc.StatusCode.RESOURCE_EXHAUSTED, [])
        assert f"({most_bytes + 2} vs. {most_bytes})" in words
        assert await send(channel, target, full) == (grpc.StatusCode.OK, "")


@pytest.mark.parametrize(
    ("method", "content"),
    [
        ("SearchService/BatchSearch", EMPTY_QUERIES),
        ("SearchService/Recommend", b"\x12\0" * 250_000),
        ("SearchService/Recommend", b"\x12\0" + b"\x1a\0" * 250_000),
        ("ItemService/UpsertItems", b"\x12\0" * 250_000),
        ("ItemService/DeleteItems", b"\x12\0" * 250_000),
        ("SearchService/Search", searches.SearchRequest(
            query=searches.Query(descriptor=resources.Descriptor(values=[0.5] * 1_000_000))
        ).SerializeToString()),
    ],
)  # fmt: skip
async def test_what_is_too_much_is_not_converted_before_it_is_refused(api: Api, method: str, content: bytes) -> None:
    """Nothing but the bytes themselves exists of it."""
    call = caller(api, method)
    tracemalloc.start()
    refusal = await refuse(call(content))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert "are taken" in refusal.status.message
    assert peak_bytes < 2 * len(content) + (1 << 20)


@pytest.mark.parametrize("method", ["SearchService/BatchSearch", "ItemService/IngestItems", "ModelService/Rollback"])
async def test_strangers_have_nothing_received(tmp_path: Path, method: str) -> None:
    """They are refused before their request has arrived."""
    tokens = tmp_path / "tokens.json"
    create_token(tokens, Access("somebody", Right.READ), None)
    content = b"\x12\0" * (5 << 20)
    async with open_api(security=SecuritySettings(tokens=str(tokens))) as api:
        address = api.server.address
        await asyncio.to_thread(send_refused, address, method, b"")  # sets up what is not counted
        tracemalloc.start()
        try:
            codes = [await asyncio.to_thread(send_refused, address, method, content) for _ in range(4)]
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert codes == [grpc.StatusCode.UNAUTHENTICATED] * 4
    assert peak_bytes < 1 << 20


def send_refused(address: str, method: str, content: bytes) -> grpc.StatusCode:
    """Uses the blocking client: the asynchronous one reports INTERNAL if it is refused while it still sends."""
    with grpc.insecure_channel(address) as channel:
        answers: Any = cast("Any", channel).stream_stream(f"/pspsearch.v1.{method}")(iter([content]))
        with pytest.raises(grpc.RpcError):
            list(answers)
        return answers.code()


async def test_health_takes_no_long_names(api: Api) -> None:
    """Anyone may call health, so long names are refused there too."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await check(api.channel, "x" * 5000)
    listed = [service async for service in _reflect(api, b"\x3a\0")]

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "at most 4,096 are taken" in (caught.value.details() or "")
    assert len(listed) == 1
    with pytest.raises(grpc.aio.AioRpcError, match="at most 4,096 are taken"):
        [_ async for _ in _reflect(api, bytes(5000))]


async def test_reflection_that_is_asked_nothing_ends(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a few idle streams of strangers would keep everyone else out."""
    monkeypatch.setattr(public, "_IDLE_S", 0.01)
    channel: Any = api.channel
    call = channel.stream_stream(REFLECTION)()

    assert await asyncio.wait_for(call.code(), PATIENCE_S) is grpc.StatusCode.DEADLINE_EXCEEDED
    assert await call.details() == "no request came for 0.01 s, or no answer was taken"


async def test_reflection_whose_answers_nobody_takes_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """This makes room for others, although gRPC cannot tell a caller who does not read."""
    monkeypatch.setattr(public, "_IDLE_S", 0.1)
    monkeypatch.setattr(public, "_AT_ONCE", 1)
    async with open_api() as api:
        channel: Any = api.channel
        deaf = channel.stream_stream(REFLECTION)()
        for _ in range(1000):
            await deaf.write(b"\x22\x1apspsearch.v1.SearchService")  # the answer is the file that the service is in
        async with asyncio.timeout(PATIENCE_S):
            while not await _has_room(api):
                await asyncio.sleep(0.01)

        assert not deaf.done()
        deaf.cancel()


async def _has_room(api: Api) -> bool:
    try:
        return len([answer async for answer in _reflect(api, b"\x3a\0")]) == 1
    except grpc.aio.AioRpcError:
        return False


@pytest.mark.parametrize("path", ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch", REFLECTION])
async def test_what_strangers_send_is_not_kept(api: Api, path: str) -> None:
    """It is gone when its call ends. The garbage collector counts objects, not bytes, so it would come too late."""
    channel: Any = api.channel
    content = bytes(4 << 20)
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(3):
            with pytest.raises(grpc.aio.AioRpcError, match="at most 4,096 are taken"):
                [_ async for _ in channel.stream_stream(path)(iter([content]))]
        async with asyncio.timeout(PATIENCE_S):
            while tracemalloc.get_traced_memory()[0] > len(content):
                await asyncio.sleep(0.01)
    finally:
        tracemalloc.stop()
        gc.enable()


async def test_compressed_requests_are_not_taken(api: Api) -> None:
    """A small compressed message may be a large one."""
    call: Any = caller(api, "SearchService/Describe")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(bytes(10 << 20), compression=grpc.Compression.Gzip)

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "gzip" in (caught.value.details() or "")


async def _reflect(api: Api, content: bytes) -> AsyncIterator[bytes]:
    channel: Any = api.channel
    call = channel.stream_stream(REFLECTION)
    async for answer in call(iter([content])):
        yield answer


async def test_requests_under_way_are_bounded_in_bytes(tmp_path: Path) -> None:
    """One caller may use half of the budget for all. Other callers and small requests are still served."""
    tokens = tmp_path / "tokens.json"
    greedy, other = (
        (("authorization", f"Bearer {create_token(tokens, Access(name, Right.WRITE), None)}"),)
        for name in ("greedy", "other")
    )
    security = SecuritySettings(tokens=str(tokens))
    async with open_api(security=security, max_message_bytes=1 << 20, max_bytes_under_way=8 << 20) as api:
        large = searches.DescribeRequest(image=_picture(700_000))
        small = items.CountItemsRequest()
        api.server.describer.may_answer.clear()
        first = api.search.Describe(large, metadata=greedy)
        await api.server.describer.entered.wait()
        refusal = await refuse(api.search.Describe(large, metadata=greedy))
        await api.items.CountItems(small, metadata=greedy)
        second = api.search.Describe(large, metadata=other)
        api.server.describer.may_answer.set()
        await asyncio.gather(first, second)
        await api.search.Describe(large, metadata=greedy)

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert "RetryInfo" in refusal.details
    assert "of greedy" in refusal.status.message


def infer(numbers: int) -> bytes:
    """A ModelInferRequest with this many numbers, one by one."""
    request = service_pb2.ModelInferRequest(model_name="search.default").SerializeToString()
    contents = _field(5, b"\x35\0\0\0\0" * numbers)  # the tensor's contents
    return request + _field(5, contents)  # the tensor, which is an input of the request


def _field(number: int, content: bytes) -> bytes:
    size, length = len(content), bytearray()
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    return bytes([number << 3 | 2, *length, size]) + content


INFER_KIND: Any = service_pb2.ModelInferRequest
INFER = Shape(INFER_KIND.DESCRIPTOR)
DESCRIPTOR = Shape(resources.Descriptor.DESCRIPTOR)
BATCH = Shape(searches.BatchSearchRequest.DESCRIPTOR)
UPSERT = Shape(items.UpsertItemsRequest.DESCRIPTOR)
DESCRIBE = Shape(searches.DescribeRequest.DESCRIPTOR)


def test_only_requests_of_very_many_fields_are_looked_at_with_pauses() -> None:
    """The number of fields counts, not bytes: an image is one field and does not wait."""
    descriptor = resources.Descriptor(values=[0.5] * 256, fingerprint="f" * 16)
    full = [
        DESCRIBE.check(searches.DescribeRequest(image=bytes(20 << 20)).SerializeToString()),
        BATCH.check(
            searches.BatchSearchRequest(queries=[searches.Query(descriptor=descriptor)] * 256).SerializeToString()
        ),
        UPSERT.check(
            items.UpsertItemsRequest(
                items=[items.ItemInput(id="a", descriptor=descriptor, attributes_json="{}")] * 256
            ).SerializeToString()
        ),
    ]

    assert [len(list(one)) for one in full] == [0, 0, 0]
    assert len(list(INFER.check(infer(2 * FIELDS_AT_ONCE)))) == 2
    assert len(list(INFER.check(infer(100_000)))) == 100_000 // FIELDS_AT_ONCE
    with pytest.raises(InvalidRequest, match="at most 16,384 are taken"):
        list(DESCRIPTOR.check(b"\x0d\0\0\0\0" * 16_385))


async def test_while_very_many_fields_are_looked_at_others_are_answered(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such requests are checked one after the other; the check stops when the caller leaves."""
    begun, looked_at, whole = asyncio.Event(), list[bytes](), Shape.check

    def check(shape: Shape, content: bytes) -> Generator[None]:
        yield from whole(shape, content)
        while content == endless:
            begun.set()
            yield
        looked_at.append(content)

    monkeypatch.setattr(Shape, "check", check)
    endless, long, short = infer(3 * FIELDS_AT_ONCE), infer(2 * FIELDS_AT_ONCE), infer(1)
    channel: Any = api.channel
    call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    first = call(endless)
    await asyncio.wait_for(begun.wait(), PATIENCE_S)
    second = asyncio.create_task(refuse(call(long)))
    await refuse(call(short))
    await api.items.CountItems(items.CountItemsRequest())
    assert len(looked_at) == 2
    assert looked_at[0] == short

    first.cancel()
    await asyncio.wait_for(second, PATIENCE_S)
    await asyncio.wait_for(api.server.rpc.admission.idle.wait(), PATIENCE_S)
    assert looked_at[2:] == [long]


def _picture(size_bytes: int) -> bytes:
    """A PNG with so many bytes after its end."""
    content = encode(load_photo(32, 32), "PNG")
    return content + bytes(size_bytes - len(content))


QUERY = Shape(searches.SearchRequest.DESCRIPTOR)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x12\x00\x12\x00", "SearchRequest.query has 2 entries or more, and at most 1 are taken"),
        (b"\x12\x04\x12\x00\x12\x00\x12\x00", "Query.id has 2 entries"),
        (b"\xf8\x07\x01" * 65, "what this server does not know"),
        (b"\xf8\x07\x01" * 64, ""),
        (b"\xfb\x07", "has groups"),
        (b"\x12", "ends too early"),
        (b"\xff" * 20, "a number has no end"),
        (b"\xf8\x07" + b"\x80" * 20, "a number has no end"),
        (b"\x12\x05\x0a", "longer than the message around it"),
        (b"\x12\x01\x0a", "ends too early"),
        (b"\x12\x02\x0a\x05\x0a\0\0\0\0\0", "longer than the message around it"),
        (b"\x12\x8a\x00", "longer than the message around it"),
        (b"", ""),
    ],
)
def test_requests_are_counted_as_the_parser_would_read_them(content: bytes, words: str) -> None:
    """A request that the parser read differently from the check could exceed its bounds."""
    try:
        list(QUERY.check(content))
        told = ""
    except InvalidRequest as error:
        told = str(error)

    assert words in told
    assert bool(words) is bool(told)


def test_numbers_are_counted_however_they_are_written() -> None:
    """Numbers may come one by one or packed, in several pieces."""
    values = itertools.chain([b"\x0d\0\0\0\0" * 16_384], [b"\x0a\x04\0\0\0\0"])
    list(DESCRIPTOR.check(next(values)))

    with pytest.raises(InvalidRequest, match=r"Descriptor\.values has 16,385 entries or more"):
        list(DESCRIPTOR.check(b"\x0d\0\0\0\0" * 16_384 + next(values)))
