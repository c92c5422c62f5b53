"""Who is let in: callers with no token, a wrong one or one with too few rights, in calls, streams and listings."""

import asyncio
import contextlib
import json
import logging
import stat
import time
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2
from tritonclient.grpc import service_pb2, service_pb2_grpc

from pspsearch.callers.access import Access, Right
from pspsearch.callers.rights import RULES
from pspsearch.callers.strangers import Strangers
from pspsearch.callers.tokens import create_token, revoke_token
from pspsearch.client import AsyncClient, Client, ItemInput
from pspsearch.config import SecuritySettings
from pspsearch.errors import Forbidden, Overloaded, RateExceeded, Unauthenticated
from pspsearch.v1 import (
    item_service_pb2,
    search_service_pb2,
)
from pspsearch.v1 import search_service_pb2 as searches
from tests import excesses
from tests.fakes.describer import ColourDescriber
from tests.servers.rollout_place import second
from tests.servers.rpc_client import FLOWER, TEMPLE, Api, assert_nothing_escaped, check, open_api, refuse

METHODS = {method.name: method for method in excesses.METHODS}
GUARDED = sorted(name for name, rule in RULES.items() if rule is not None)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A token file with one token in it."""
    path = tmp_path / "tokens.json"
    create_token(path, Access("first"), None)
    return path


@pytest.fixture
async def api(file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Api]:
    """A server that asks for tokens and writes an audit log, with the collections `default` and `photos`."""
    settings = SecuritySettings(tokens=str(file), audit_log=str(tmp_path / "audit.jsonl"))
    with caplog.at_level(logging.DEBUG, "pspsearch"):
        async with open_api(security=settings) as api:
            admin = create_token(file, Access("admin"), None)
            async with AsyncClient(api.server.address, token=admin) as client:
                await client.create_collection("photos")
                for collection in ("default", "photos"):
                    await client.upsert([ItemInput("temple", TEMPLE)], collection=collection)
            yield api
    assert_nothing_escaped(caplog)
    assert "pspsearch_" not in caplog.text, "a token is in the log"


@contextlib.asynccontextmanager
async def client_of(api: Api, file: Path, access: Access) -> AsyncGenerator[AsyncClient]:
    """A client with a new token."""
    async with AsyncClient(api.server.address, token=create_token(file, access, None)) as client:
        yield client


async def ask(api: Api, name: str, token: str | None, request: Message | None = None) -> grpc.StatusCode:
    """The code that a call with this token ends with. It sends serialised messages only."""
    method = METHODS[name]
    request = request or GetMessageClass(method.input_type)()
    path = f"/{method.containing_service.full_name}/{name}"
    metadata = () if token is None else (("authorization", token),)

    async def requests() -> AsyncIterator[Message]:
        yield request

    types: dict[str, Any] = {
        "request_serializer": type(request).SerializeToString,
        "response_deserializer": GetMessageClass(method.output_type).FromString,
    }
    call: Any
    if method.client_streaming:
        call = api.channel.stream_stream(path, **types)(requests(), metadata=metadata, timeout=30)
    elif method.server_streaming:
        call = api.channel.unary_stream(path, **types)(request, metadata=metadata, timeout=30)
    else:
        call = api.channel.unary_unary(path, **types)(request, metadata=metadata, timeout=30)
    with contextlib.suppress(grpc.aio.AioRpcError):
        if method.client_streaming or method.server_streaming:
            async for _ in call:
                pass
    return await call.code()


def test_every_method_has_a_rule() -> None:
    """Triton's methods that are not served need no rule."""
    served = {method.name for service in excesses.SERVICES[:-1] for method in service.methods}

    assert served <= RULES.keys()
    assert METHODS.keys() == RULES.keys()
    assert [name for name, rule in RULES.items() if rule is None] == ["ServerLive", "ServerReady"]


async def test_no_method_works_without_a_good_token(api: Api, file: Path) -> None:
    """A token may be absent, empty, with a wrong scheme, unknown, expired or revoked."""
    revoked = create_token(file, Access("revoked"), None)
    expired = create_token(file, Access("expired"), datetime.now(UTC) - timedelta(seconds=1))
    revoke_token(file, "revoked")
    headers = (None, "Bearer ", f"Basic {revoked}", "Bearer wrong", f"Bearer {expired}", f"Bearer {revoked}")

    codes = {(name, header): await ask(api, name, header) for name in GUARDED for header in headers}

    assert [case for case, code in codes.items() if code is not grpc.StatusCode.UNAUTHENTICATED] == []


async def test_no_method_does_more_than_a_token_may(api: Api, file: Path) -> None:
    """One right less or another collection is refused; the right itself is enough."""
    less, enough = (
        {right: f"Bearer {create_token(file, Access(f'{word}{right}', right), None)}" for right in Right}
        for word in ("less", "enough")
    )
    elsewhere = f"Bearer {create_token(file, Access('elsewhere', Right.ADMIN, frozenset({'x'})), None)}"
    streams = ("SearchStream", "ModelStreamInfer")  # streams refuse each request on its own
    refused, let_in = (grpc.StatusCode.PERMISSION_DENIED,), []
    for name in GUARDED:
        rule, request = RULES[name], GetMessageClass(METHODS[name].input_type)()
        assert rule is not None
        if rule.right > Right.READ and await ask(api, name, less[Right(rule.right - 1)], request) not in refused:
            let_in.append((name, "with less"))
        elsewhere_counts = rule.collection(request) is not None and name not in streams
        if elsewhere_counts and await ask(api, name, elsewhere, request) not in refused:
            let_in.append((name, "from elsewhere"))
        if await ask(api, name, enough[rule.right], request) in (*refused, grpc.StatusCode.UNAUTHENTICATED):
            let_in.append((name, "not, though it may"))

    assert let_in == []


async def test_health_is_for_everybody(api: Api) -> None:
    """Whoever monitors the server needs no secret for it."""
    assert (await check(api.channel)).status == health_pb2.HealthCheckResponse.SERVING
    assert await ask(api, "ServerLive", None) is grpc.StatusCode.OK
    assert await ask(api, "ServerReady", None) is grpc.StatusCode.OK


async def test_errors_say_what_is_missing(api: Api, file: Path) -> None:
    """The clients raise their own classes for these errors."""
    async with AsyncClient(api.server.address) as client:
        with pytest.raises(Unauthenticated, match="carries no token"):
            await client.search(TEMPLE)
    reader = create_token(file, Access("reader", Right.READ, frozenset({"photos"})), None)

    def read() -> None:
        with Client(api.server.address, token=reader) as client:
            assert client.search(TEMPLE, collection="photos").hits[0].id == "temple"
            with pytest.raises(Forbidden, match="reader has the right to READ, and this takes WRITE"):
                client.upsert([ItemInput("flower", FLOWER)], collection="photos")
            with pytest.raises(Forbidden, match="reader has no access to collection 'default'"):
                client.search(TEMPLE)
            with pytest.raises(Forbidden, match="reader has no access to collection 'nowhere'"):
                client.search(TEMPLE, collection="nowhere")

    await asyncio.to_thread(read)


async def test_looking_for_model_versions_takes_the_right_to_all(api: Api, file: Path) -> None:
    """Listing makes Triton load what is new, so a reader, or a writer of one collection, may not do it."""
    for access in (Access("writer", Right.WRITE), Access("photographer", Right.ADMIN, frozenset({"photos"}))):
        async with client_of(api, file, access) as client:
            with pytest.raises(Forbidden, match=access.holder):
                await client.list_model_versions()
    async with client_of(api, file, Access("operator", Right.ADMIN)) as client:
        assert [one.collections for one in await client.list_model_versions()] == [("default", "photos")]


async def test_listings_have_what_the_token_sees(api: Api, file: Path) -> None:
    """A listing hides even the names of other collections."""
    async with client_of(api, file, Access("photographer", Right.ADMIN, frozenset({"photos"}))) as client:
        assert [one.name for one in await client.list_collections()] == ["photos"]
        assert [one.name for one in (await client.status()).collections] == ["photos"]
        with pytest.raises(Forbidden):
            await client.create_collection("more")
        with pytest.raises(Forbidden):
            await client.delete_collection("default")
        assert await client.delete_collection("photos") == 1
    async with client_of(api, file, Access("all", Right.READ)) as client:
        assert [one.name for one in await client.list_collections()] == ["default"]


async def test_revocation_reaches_streams_that_are_open(api: Api, file: Path) -> None:
    """The next item or query is refused with the reason; what came before stays."""
    token = create_token(file, Access("shop"), None)
    searched, put_in = asyncio.Event(), asyncio.Event()

    async def revoke() -> None:
        await asyncio.wait_for(asyncio.gather(searched.wait(), put_in.wait()), 30)
        revoke_token(file, "shop")

    revoking = asyncio.create_task(revoke())

    async def queries() -> AsyncIterator[tuple[str, bytes]]:
        yield "before", TEMPLE
        await revoking
        yield "after", TEMPLE

    async def inputs() -> AsyncIterator[ItemInput]:
        yield ItemInput("before", FLOWER)
        await revoking
        yield ItemInput("after", FLOWER)

    async def search(client: AsyncClient) -> dict[str, object]:
        answers: dict[str, object] = {}
        async for tag, answer in client.search_stream(queries()):
            answers[tag] = answer
            searched.set()
        return answers

    async def ingest(client: AsyncClient) -> dict[str, Exception | None]:
        answers: dict[str, Exception | None] = {}
        async for one in client.ingest(inputs()):
            answers[one.id] = one.error
            put_in.set()
        return answers

    async with AsyncClient(api.server.address, token=token) as client:
        found, taken = await asyncio.gather(search(client), ingest(client))

    assert not isinstance(found["before"], Exception)
    assert isinstance(found["after"], Unauthenticated)
    assert taken["before"] is None
    assert isinstance(taken["after"], Unauthenticated)
    async with client_of(api, file, Access("reader", Right.READ)) as client:
        assert [item.id async for item in client.list()] == ["temple", "before"]


async def test_revocation_reaches_who_watches_a_rollout(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The stream ends with the reason, and tells nothing that happens afterwards."""
    candidate = second()
    candidate.may_answer.clear()
    settings = SecuritySettings(tokens=str(file))
    async with (
        open_api(security=settings, versions={1: ColourDescriber(), 2: candidate}) as api,
        client_of(api, file, Access("admin")) as admin,
        client_of(api, file, Access("shop")) as shop,
    ):
        await admin.upsert([ItemInput("temple", TEMPLE), ItemInput("flower", FLOWER)])
        await admin.start_rollout()
        watching = shop.watch_rollout()
        assert (await anext(watching)).described == 0
        revoke_token(file, "shop")
        candidate.may_answer.set()

        with pytest.raises(Unauthenticated, match="the token is not one that the server knows"):
            async with asyncio.timeout(30):
                [moment async for moment in watching]
    assert_nothing_escaped(caplog)


async def test_rate_is_each_callers_own(api: Api, file: Path) -> None:
    """A caller that calls too often is told to retry later; other callers are not held up."""
    slow = Access("slow", Right.READ, calls_per_s=0.01)
    async with client_of(api, file, slow) as client, client_of(api, file, Access("other", Right.READ)) as other:
        await client.status()
        with pytest.raises(RateExceeded, match=r"slow calls more than 0\.01 times a second"):
            await client.status()
        for _ in range(20):
            await other.status()


async def test_refusal_says_when_to_come_again(api: Api, file: Path) -> None:
    """The refusal says when the caller may call once more."""
    token = create_token(file, Access("slow", Right.READ, calls_per_s=0.01), None)
    metadata = (("authorization", f"Bearer {token}"),)
    await api.items.CountItems(item_service_pb2.CountItemsRequest(), metadata=metadata)

    refusal = await refuse(api.items.CountItems(item_service_pb2.CountItemsRequest(), metadata=metadata))

    assert refusal.reason == "RATE_EXCEEDED"
    assert 60 < refusal.detail(error_details_pb2.RetryInfo).retry_delay.ToTimedelta().total_seconds() <= 100


@pytest.mark.parametrize(("calls_per_s", "count", "least_s"), [(0.5, 1, 0.0), (50.0, 100, 0.99), (1.0, 2, 0.99)])
async def test_ingest_goes_at_its_callers_rate(
    api: Api, file: Path, calls_per_s: float, count: int, least_s: float
) -> None:
    """It first uses the calls that were saved up, which opening it does not, and then waits instead of losing items."""
    async with client_of(api, file, Access("slow", Right.WRITE, calls_per_s=calls_per_s)) as client:
        started = time.monotonic()
        given = [one.error async for one in client.ingest(ItemInput(str(number), TEMPLE) for number in range(count))]
        taken_s = time.monotonic() - started

    assert given == [None] * count
    assert taken_s >= least_s


async def test_queries_of_a_stream_wait_for_their_turn(api: Api, file: Path) -> None:
    """In either protocol. Other calls have their own turn, or none would get in while a stream has more queries."""
    token = create_token(file, Access("slow", Right.READ, calls_per_s=4.0), None)
    metadata = (("authorization", f"Bearer {token}"),)
    started = time.monotonic()
    async with AsyncClient(api.server.address, token=token) as client:
        answers = [answer async for _, answer in client.search_stream([("", TEMPLE)] * 6)]
        await asyncio.gather(*(client.status() for _ in range(4)))
        with pytest.raises(RateExceeded):
            await asyncio.gather(*(client.status() for _ in range(40)))
    stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(api.channel)
    requests = [service_pb2.ModelInferRequest(model_name="search.default", id=str(number)) for number in range(2)]
    told = [answer.error_message async for answer in stub.ModelStreamInfer(iter(requests), metadata=metadata)]

    assert [type(answer).__name__ for answer in answers] == ["SearchResult"] * 6
    assert len(told) == 2
    assert not any("times a second" in one for one in told)
    assert time.monotonic() - started >= 0.99, "eight requests, four of which were saved up"


async def test_waiting_takes_no_more_than_its_own_time_of_a_deadline(api: Api, file: Path) -> None:
    """A query gets what is left of the stream's deadline; its wait is not subtracted twice."""
    token = create_token(file, Access("slow", Right.READ, calls_per_s=0.25), None)
    query = search_service_pb2.SearchRequest(query=search_service_pb2.Query(image=TEMPLE))
    requests = [search_service_pb2.SearchStreamRequest(request=query)] * 2

    stream = api.search.SearchStream(iter(requests), metadata=(("authorization", f"Bearer {token}"),), timeout=7.9)

    assert [answer.WhichOneof("outcome") async for answer in stream] == ["response"] * 2


async def test_what_is_revoked_while_it_waits_is_refused(api: Api, file: Path) -> None:
    """The right is checked again when the query's turn comes."""
    token = create_token(file, Access("shop", Right.READ, calls_per_s=0.25), None)
    answers: list[object] = []
    async with AsyncClient(api.server.address, token=token) as client:
        async for _, answer in client.search_stream([("", TEMPLE)] * 2):
            if not answers:
                revoke_token(file, "shop")
            answers.append(answer)

    assert [type(answer).__name__ for answer in answers] == ["SearchResult", "Unauthenticated"]


@contextlib.asynccontextmanager
async def bounded(file: Path, calls: int) -> AsyncGenerator[Api]:
    """A server that lets one caller have so many calls under way."""
    async with open_api(security=SecuritySettings(tokens=str(file), caller_calls=calls)) as api:
        yield api


async def test_calls_under_way_are_each_callers_own(file: Path) -> None:
    """Idle streams count only among their caller's streams. Their places are free when they end."""
    async with bounded(file, 2) as api, client_of(api, file, Access("greedy", Right.READ)) as greedy:
        opened, over = asyncio.Semaphore(0), asyncio.Event()

        async def one_picture() -> AsyncIterator[tuple[str, bytes]]:
            yield "", TEMPLE
            await over.wait()

        async def open_stream() -> None:
            async for _ in greedy.search_stream(one_picture()):
                opened.release()

        streams = [asyncio.create_task(open_stream()) for _ in range(2)]
        for _ in streams:
            await opened.acquire()
        with pytest.raises(Overloaded, match="greedy has 2 streams open already"):
            await open_stream()
        await greedy.status()
        async with client_of(api, file, Access("other", Right.READ)) as other:
            await other.status()
        over.set()
        await asyncio.gather(*streams)
        await open_stream()


async def test_requests_of_streams_wait_for_their_callers_share(file: Path) -> None:
    """Requests beyond the caller's share are answered one after the other, and none is lost."""
    async with bounded(file, 1) as api, client_of(api, file, Access("greedy", Right.READ)) as greedy:

        async def ask_many() -> list[Exception | object]:
            return [answer async for _, answer in greedy.search_stream([("", TEMPLE)] * 20)]

        (answers,) = await asyncio.gather(ask_many())
        assert [type(answer).__name__ for answer in answers] == ["SearchResult"] * 20
        assert (await greedy.status()).requests_in_flight == 1


async def test_size_is_bounded(api: Api, file: Path) -> None:
    """The bound applies to this caller's requests."""
    async with client_of(api, file, Access("small", Right.READ, max_request_bytes=1000)) as client:
        await client.status()
        with pytest.raises(Exception, match="a request of small may have 1,000 bytes"):
            await client.search(TEMPLE)


async def test_audit_log_has_writes_and_refusals(api: Api, file: Path, tmp_path: Path) -> None:
    """The log says who did what, where, to how many items, and how it ended. Reads are not logged."""
    token = create_token(file, Access("shop", Right.WRITE), None)
    async with AsyncClient(api.server.address, token=token) as client:
        await client.search(TEMPLE)
        await client.delete(filter='NOT colour = "red"', collection="photos")
        with pytest.raises(Forbidden):
            await client.delete_collection("photos")
        assert [one.error async for one in client.ingest([ItemInput("a", TEMPLE), ItemInput("b", FLOWER)])] == [
            None
        ] * 2
    async with AsyncClient(api.server.address) as client:
        with pytest.raises(Unauthenticated):
            await client.search(TEMPLE)

    text = (tmp_path / "audit.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    told = [(line["holder"], line["method"], line["collection"], line["code"]) for line in lines]
    assert told == [
        ("admin", "CreateCollection", "photos", "OK"),
        ("admin", "UpsertItems", "default", "OK"),
        ("admin", "UpsertItems", "photos", "OK"),
        ("shop", "DeleteItems", "photos", "OK"),
        ("shop", "DeleteCollection", None, "PERMISSION_DENIED"),  # nor of one for a higher right
        ("shop", "IngestItems", "default", "OK"),
        ("", "Search", None, "UNAUTHENTICATED"),  # the request was never read
    ]
    assert [line.get("acknowledged") for line in lines] == [None, 1, 1, None, None, 2, None]
    assert (lines[3]["deleted"], lines[3]["filter"]) == (1, 'NOT colour = "red"')
    assert all(line["peer"].startswith("ipv4:127.0.0.1:") and line["request_id"] and line["time"] for line in lines)
    assert token not in text


async def test_a_crowd_of_strangers_does_not_fill_the_audit_log(
    api: Api, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor does it fill the server's own log. Their number is logged, and callers with a token are logged as always."""
    path, strangers = tmp_path / "audit.jsonl", api.server.rpc._audit._strangers
    before = len(path.read_text().splitlines())
    for _ in range(40):
        assert (await refuse(api.search.Search(searches.SearchRequest()))).code is grpc.StatusCode.UNAUTHENTICATED
    async with client_of(api, file, Access("shop", Right.WRITE)) as client:
        await client.delete(["nothing"])
        monkeypatch.setattr(strangers, "_clock", lambda: time.monotonic() + 60)
        await client.delete(["nothing"])

    told = [json.loads(line) for line in path.read_text().splitlines()[before:]]
    assert [line["code"] for line in told] == ["UNAUTHENTICATED"] * 10 + ["OK", "UNAUTHENTICATED", "OK"]
    assert (told[11]["left_out"], list(told[11]["left_out_by_host"].values())) == (30, [30])
    assert "127.0.0.1" in next(iter(told[11]["left_out_by_host"]))
    loud = [one for one in caplog.records if one.levelno > logging.DEBUG and "refused" in one.getMessage()]
    assert loud == []


async def test_strangers_who_were_left_out_are_told_at_the_end(file: Path, tmp_path: Path) -> None:
    """Their number is logged even if nobody calls any more."""
    settings = SecuritySettings(tokens=str(file), audit_log=str(tmp_path / "audit.jsonl"))
    async with open_api(security=settings) as api:
        for _ in range(12):
            await refuse(api.search.Search(searches.SearchRequest()))

    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert [line.get("left_out") for line in lines] == [None] * 10 + [2]


def test_strangers_with_many_addresses_have_no_more_lines() -> None:
    """A hundred lines a minute is the limit, whatever the hosts; then counting starts afresh."""
    now_s = [0.0]
    strangers = Strangers(lambda: now_s[0])

    admitted = [strangers.admit(f"ipv6:[2001:db8::{number:x}]") for number in range(100_000)]

    assert sum(admitted) == 100
    assert not strangers.is_over()
    assert len(strangers._written) + len(strangers._left_out) <= 200
    now_s[0] = 60.0
    assert strangers.is_over()
    assert strangers.end() == {"": 99_900}
    assert strangers.admit("ipv4:192.0.2.1")
    assert strangers.end() == {}


async def test_audit_log_has_what_streams_turned_away(api: Api, file: Path, tmp_path: Path) -> None:
    """Such streams report each refusal to their callers and end well, so the log has one line for each such stream."""
    photographer = create_token(file, Access("photographer", Right.READ, frozenset({"photos"})), None)
    stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(api.channel)
    metadata = (("authorization", f"Bearer {photographer}"),)

    async def infer(*collections: str) -> None:
        requests = [service_pb2.ModelInferRequest(model_name=f"search.{name}") for name in collections]
        async for _ in stub.ModelStreamInfer(iter(requests), metadata=metadata):
            pass

    async def inputs() -> AsyncIterator[ItemInput]:
        yield ItemInput("before", TEMPLE)
        await put_in.wait()
        revoke_token(file, "shop")
        yield ItemInput("after", TEMPLE)
        yield ItemInput("later", TEMPLE)

    put_in = asyncio.Event()
    async with AsyncClient(api.server.address, token=photographer) as client:
        for collection, count in (("default", 3), ("photos", 2)):
            async for _ in client.search_stream([("", TEMPLE)] * count, collection=collection):
                pass
    await infer("photos", "default", "default")
    await infer("photos")
    async with client_of(api, file, Access("shop", Right.WRITE)) as client:
        async for _ in client.ingest(inputs()):
            put_in.set()

    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()][3:]
    told = [(one["holder"], one["method"], one["code"], one["turned_away"], one.get("acknowledged")) for one in lines]
    assert told == [
        ("photographer", "SearchStream", "OK", 3, None),
        ("photographer", "ModelStreamInfer", "OK", 2, None),
        ("shop", "IngestItems", "OK", 2, 1),
    ]


async def test_audit_log_can_be_moved_away(api: Api, file: Path, tmp_path: Path) -> None:
    """This is what log rotation does."""
    async with client_of(api, file, Access("shop", Right.WRITE)) as client:
        (tmp_path / "audit.jsonl").rename(tmp_path / "old.jsonl")
        await client.delete(["temple"])

    assert "DeleteItems" in (tmp_path / "audit.jsonl").read_text()
    assert "DeleteItems" not in (tmp_path / "old.jsonl").read_text()


async def test_audit_log_that_cannot_be_begun_anew_ends_no_call(
    api: Api, file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The server's log says what is missing. The audit log continues when it can, and only its owner can read it."""
    path = tmp_path / "audit.jsonl"
    async with client_of(api, file, Access("shop", Right.WRITE)) as client:
        path.rename(tmp_path / "old.jsonl")
        path.mkdir()
        for _ in range(2):
            assert await client.delete(["nothing"]) == 0
        path.rmdir()
        await client.delete(["temple"])

    missing = [one for one in caplog.messages if f"the audit log {path} cannot be written: shop called Delete" in one]
    assert len(missing) == 2
    assert [json.loads(line)["deleted"] for line in path.read_text().splitlines()] == [1]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
