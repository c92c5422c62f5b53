"""The two streams over a real channel, and their pace."""

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, cast

import grpc
import pytest
from google.protobuf.message import Message
from tritonclient.grpc import service_pb2

from pspsearch.callers.budget import Budget, Parked
from pspsearch.callers.quota import Quota
from pspsearch.config import REQUEST_COPIES
from pspsearch.errors import TritonUnavailable
from pspsearch.ingest.request import ItemInput
from pspsearch.rpc.streams import MAX_STREAM_BYTES, Exchange, Requests
from pspsearch.v1 import collection_service_pb2 as collections
from pspsearch.v1 import item_service_pb2 as items
from pspsearch.v1 import resources_pb2 as resources
from pspsearch.v1 import search_service_pb2 as searches
from tests.fakes.catalog import MemoryCatalog
from tests.fakes.describer import VERSION
from tests.pictures import encode, load_photo
from tests.servers.rpc_client import FLOWER, TEMPLE, Api, Refusal, assert_nothing_escaped, item, open_api, query, refuse

PATIENCE_S = 30
"""How long a test waits for something that should happen at once."""


@pytest.fixture(autouse=True)
def nothing_escapes(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No test may let an exception escape."""
    yield
    assert_nothing_escaped(caplog)


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    """A server with two items."""
    async with open_api() as api:
        await api.fill(item("temple", TEMPLE), item("flower", FLOWER))
        yield api


def ask(tag: str, by: searches.Query | None = None, **options: Any) -> searches.SearchStreamRequest:
    """One query of a stream."""
    request = searches.SearchRequest(query=by, options=searches.SearchOptions(**options))
    return searches.SearchStreamRequest(tag=tag, request=request)


async def become_idle(api: Api) -> None:
    """Waits until no call is under way."""
    await asyncio.wait_for(api.server.rpc.admission.idle.wait(), PATIENCE_S)


async def ingest(api: Api, requests: Sequence[items.IngestItemsRequest]) -> dict[int, items.UpsertResult]:
    """Ingests, and returns the acknowledgements by tag."""
    return {answer.tag: answer.result async for answer in api.items.IngestItems(iter(requests))}


async def test_answers_come_as_they_are_ready_with_their_tags(api: Api) -> None:
    """A query that waits in the model does not hold up the next one."""
    api.server.describer.may_answer.clear()
    stream = api.search.SearchStream()
    await stream.write(ask("slow", query(image=FLOWER), limit=1))
    await asyncio.wait_for(api.server.describer.entered.wait(), PATIENCE_S)
    await stream.write(ask("quick", query(id="temple"), limit=1))
    first = await stream.read()
    api.server.describer.may_answer.set()
    second = await stream.read()
    await stream.done_writing()

    assert isinstance(first, searches.SearchStreamResponse)
    assert isinstance(second, searches.SearchStreamResponse)
    assert (first.tag, second.tag) == ("quick", "slow")
    assert [hit.id for hit in second.response.hits] == ["flower"]
    assert second.response.origin.fingerprint == VERSION.contract.fingerprint
    assert second.response.timing.total_ms > 0
    assert await stream.read() is grpc.aio.EOF
    assert await stream.code() is grpc.StatusCode.OK


async def test_bad_message_fails_alone(api: Api) -> None:
    """The stream goes on, and every message gets its answer."""
    requests = [
        ask("no query"),
        ask("broken", query(image=b"no image")),
        ask("limit", query(id="temple"), limit=0),
        ask("filter", query(id="temple"), filter="("),
        ask("unknown", query(id="nobody")),
        ask("t" * 257, query(id="temple")),
        ask("good", query(id="temple")),
    ]
    answers = {answer.tag: answer async for answer in api.search.SearchStream(iter(requests))}

    reasons = {tag: Refusal(answer.status).reason for tag, answer in answers.items() if answer.HasField("status")}
    assert reasons == {
        "no query": "INVALID_REQUEST",
        "broken": "UNKNOWN_FORMAT",
        "limit": "INVALID_REQUEST",
        "filter": "BAD_FILTER",
        "unknown": "NOT_FOUND",
        "t" * 256: "INVALID_REQUEST",
    }
    assert [hit.id for hit in answers["good"].response.hits] == ["flower"]


async def test_many_queries_of_a_stream_are_all_answered(api: Api) -> None:
    """There are many more than may be under way at once."""
    requests = [ask(str(number), query(id="temple")) for number in range(500)]
    tags = [answer.tag async for answer in api.search.SearchStream(iter(requests))]

    assert sorted(tags, key=int) == [request.tag for request in requests]


async def test_cancelled_stream_leaves_no_work(api: Api) -> None:
    """Its queries under way are dropped."""
    api.server.describer.may_answer.clear()
    stream = api.search.SearchStream()
    for number in range(5):
        await stream.write(ask(str(number), query(image=TEMPLE)))
    await asyncio.wait_for(api.server.describer.entered.wait(), PATIENCE_S)
    stream.cancel()

    await become_idle(api)
    assert api.server.rpc.admission.in_flight == 0


@pytest.mark.parametrize("answered", [0, 1, 3])
async def test_caller_who_leaves_without_reading_leaves_no_work(api: Api, answered: int) -> None:
    """Unread answers fill the connection, but the stream still ends when its caller leaves."""
    large = encode(load_photo(640, 427), "PNG")
    await api.fill(item("large", large))
    stream = api.search.SearchStream()
    for number in range(20):
        await stream.write(ask(str(number), query(id="temple"), return_images=True))
    for _ in range(answered):
        await stream.read()
    stream.cancel()

    await become_idle(api)
    assert api.server.rpc.admission.in_flight == 0


async def test_ingest_acknowledges_each_item_with_its_tag(api: Api) -> None:
    """Bad items too. The server ignores the meaning of tags, and the first message names the collection."""
    wanted = resources.Collection(name="birds")
    await api.collections.CreateCollection(collections.CreateCollectionRequest(collection=wanted))
    requests = [
        items.IngestItemsRequest(collection="birds", tag=-5, item=item("a", TEMPLE)),
        items.IngestItemsRequest(collection="default", tag=7, item=item("b", FLOWER)),
        items.IngestItemsRequest(tag=8, item=item("c", b"no image")),
        items.IngestItemsRequest(tag=9, item=item("\0")),
    ]
    results = await ingest(api, requests)

    assert {tag: (result.id, result.status.code) for tag, result in results.items()} == {
        -5: ("a", 0),
        7: ("b", 0),
        8: ("c", grpc.StatusCode.INVALID_ARGUMENT.value[0]),
        9: ("\0", grpc.StatusCode.INVALID_ARGUMENT.value[0]),
    }
    assert Refusal(results[8].status).reason == "UNKNOWN_FORMAT"
    listed = await api.items.ListItems(items.ListItemsRequest(collection="birds"))
    assert sorted(one.id for one in listed.items) == ["a", "b"]


async def test_equal_tags_are_answered_each(api: Api) -> None:
    """A caller who does not use tags sends zeros."""
    requests = [items.IngestItemsRequest(item=item(str(number))) for number in range(5)]
    ids = [answer.result.id async for answer in api.items.IngestItems(iter(requests))]

    assert sorted(ids) == ["0", "1", "2", "3", "4"]


async def test_ingest_that_is_sent_again_costs_no_inference(api: Api) -> None:
    """So a caller can resume by sending the unacknowledged items again."""
    requests = [items.IngestItemsRequest(tag=number, item=item(f"item {number}", TEMPLE)) for number in range(300)]
    first = await ingest(api, requests)
    described = api.server.describer.images
    again = await ingest(api, requests)

    assert {result.outcome for result in first.values()} == {items.UPSERT_OUTCOME_CREATED}
    assert {result.outcome for result in again.values()} == {items.UPSERT_OUTCOME_UNCHANGED}
    assert {tag: result.sequence for tag, result in again.items()} == {
        tag: result.sequence for tag, result in first.items()
    }
    assert (len(again), api.server.describer.images) == (300, described)


async def test_what_may_pass_strikes_items_and_not_the_stream(api: Api) -> None:
    """Triton comes back while the stream is open."""
    stream = api.items.IngestItems()
    codes: list[int] = []
    for number, failure in enumerate((TritonUnavailable("Triton is away"), None)):
        api.server.describer.failure = failure
        await stream.write(items.IngestItemsRequest(tag=number, item=item("photo", encode(load_photo(50, 40)))))
        answer = await stream.read()
        assert isinstance(answer, items.IngestItemsResponse)
        codes.append(answer.result.status.code)
    await stream.done_writing()

    assert codes == [grpc.StatusCode.UNAVAILABLE.value[0], 0]
    assert await stream.code() is grpc.StatusCode.OK


async def test_ingest_into_nothing_is_refused(api: Api) -> None:
    """The first message is refused. A stream without messages has no collection and no answer."""
    request = items.IngestItemsRequest(collection="nowhere", item=item("a"))
    stream = api.items.IngestItems(iter([request]))
    refusal = await refuse(stream.read())

    assert refusal.reason == "NOT_FOUND"
    assert await ingest(api, []) == {}


async def test_inner_failure_ends_an_ingest_and_is_not_told(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    """An ingest ends like any other call."""
    api.server.describer.failure = RuntimeError("secret")
    stream = api.items.IngestItems(iter([items.IngestItemsRequest(item=item("new", encode(load_photo(50, 40))))]))
    refusal = await refuse(stream.read())

    assert (refusal.code, b"secret" in refusal.status.SerializeToString()) == (grpc.StatusCode.INTERNAL, False)
    assert "secret" in caplog.text
    assert [one.id for one in await api.list_all()] == ["temple", "flower"]


IMAGE = bytes(1000)


@pytest.mark.parametrize(
    ("method", "requests"),
    [
        ("/pspsearch.v1.SearchService/SearchStream", [ask("a", query(image=IMAGE)), ask("b", query(id="temple"))]),
        (
            "/pspsearch.v1.ItemService/IngestItems",
            [items.IngestItemsRequest(item=items.ItemInput(id="a", image=image)) for image in (IMAGE, TEMPLE)],
        ),
        (
            "/inference.GRPCInferenceService/ModelStreamInfer",
            [service_pb2.ModelInferRequest(model_name="search.default", raw_input_contents=[IMAGE])] * 2,
        ),
    ],
)
async def test_an_idle_stream_holds_nothing_of_what_it_was_asked(
    api: Api, method: str, requests: Sequence[Message]
) -> None:
    """Once it has answered, no request counts any more."""
    kinds = (type(requests[0]), ItemInput)
    contents = [request.SerializeToString() for request in requests]
    before = count_objects(kinds)
    stream = cast("Any", api.channel).stream_stream(method)()
    for content in contents:
        await stream.write(content)
    for _ in contents:
        await stream.read()

    async with asyncio.timeout(PATIENCE_S):
        while count_objects(kinds) > before:
            await asyncio.sleep(0.01)
    assert not stream.done()
    stream.cancel()


def count_objects(kinds: tuple[type, ...]) -> int:
    """How many objects of these kinds, and finished tasks with an answer, exist in this process."""
    return sum(issubclass(type(one), kinds) or has_answer(one) for one in gc.get_objects())


def has_answer(one: Any) -> bool:
    """Whether the object is a task that keeps the bytes that it returned."""
    if not issubclass(type(one), asyncio.Task) or not one.done() or one.cancelled() or one.exception():
        return False
    return isinstance(one.result(), bytes)


@pytest.mark.parametrize("answered", [0, 40])
async def test_cancelled_ingest_leaves_no_work(api: Api, answered: int) -> None:
    """Acknowledged items are stored; the caller must send the others again."""
    stream = api.items.IngestItems()
    for number in range(200):
        await stream.write(items.IngestItemsRequest(tag=number, item=item(f"item {number}", TEMPLE)))
    acknowledged: list[str] = []
    for _ in range(answered):
        answer = await stream.read()
        assert isinstance(answer, items.IngestItemsResponse)
        acknowledged.append(answer.result.id)
    stream.cancel()

    await become_idle(api)
    assert set(acknowledged) <= {one.id for one in await api.list_all()}


async def test_no_more_is_read_than_is_answered() -> None:
    """If a caller does not take its answers, no more of its requests are read, so little waits in the server."""
    reads, sent = 0, list[int]()

    async def incoming() -> AsyncIterator[tuple[int, Parked]]:
        nonlocal reads
        for number in range(50):
            reads += 1
            yield number, parked()

    async def send(content: bytes) -> None:
        assert reads - len(sent) <= 4
        sent.append(int(content))

    exchange = open_exchange(incoming())
    await exchange.run(echo(exchange), send)

    assert sent == list(range(50))


async def test_work_ends_when_nothing_can_be_sent() -> None:
    """The exchange waits until the work has ended."""
    ended = False

    async def incoming() -> AsyncIterator[tuple[int, Parked]]:
        yield 1, parked()
        await asyncio.Event().wait()

    async def work() -> None:
        nonlocal ended
        try:
            await echo(exchange)
        finally:
            ended = True

    async def send(_content: bytes) -> None:
        raise ConnectionError("gone")

    exchange = open_exchange(incoming())
    with pytest.raises(ConnectionError, match="gone"):
        await exchange.run(work(), send)

    assert ended


async def test_nothing_stays_taken_when_sending_fails_and_then_is_cancelled() -> None:
    """gRPC does this when a caller leaves; the work may take a while to end."""
    share, failed, may_end = share_of(1 << 30), asyncio.Event(), asyncio.Event()

    async def incoming() -> AsyncIterator[tuple[int, Parked]]:
        yield 1, parked(share)
        yield 2, parked(share)
        failed.set()
        try:
            await asyncio.Event().wait()
        finally:
            await may_end.wait()

    async def send(_content: bytes) -> None:
        await failed.wait()
        raise ConnectionError("gone")

    exchange = open_exchange(incoming(), share)
    running = asyncio.create_task(exchange.run(echo(exchange), send))
    await failed.wait()
    await asyncio.wait([running], timeout=0)
    running.cancel()
    await asyncio.wait([running])
    may_end.set()
    await settle()  # lets the work end

    assert running.cancelled()
    assert share.bytes.held_bytes == 0


async def test_failing_work_raises_after_its_answers() -> None:
    """Earlier answers are not lost."""
    sent: list[int] = []

    async def incoming() -> AsyncIterator[tuple[int, Parked]]:
        yield 1, parked()
        raise ValueError("broken")

    async def send(content: bytes) -> None:
        sent.append(int(content))

    exchange = open_exchange(incoming())
    with pytest.raises(ValueError, match="broken"):
        await exchange.run(echo(exchange), send)

    assert sent == [1]


def open_exchange(incoming: Requests[int], share: Quota | None = None) -> Exchange[int]:
    """An exchange of at most four requests at once, whose answers have up to as many MiB as the request's number."""
    return Exchange(incoming, 4, share or share_of(1 << 30), lambda mebibytes: mebibytes << 20)


def share_of(budget_bytes: int) -> Quota:
    """The quota of the only caller."""
    return Quota("", 0, Budget(budget_bytes))


def parked(share: Quota | None = None) -> Parked:
    """A request of one byte that was received and read."""
    return Parked((share or share_of(1 << 30)).bytes, REQUEST_COPIES)


async def echo(exchange: Exchange[int]) -> None:
    """Answers each request with itself."""
    async for turn in exchange.turns():
        exchange.answer(turn, b"%d" % turn.request)


async def count_begun(mebibytes: Sequence[int], share: Quota | None = None) -> list[int]:
    """How many requests have begun at first and after each sent answer. Each answer is as large as it may be."""
    share = share or share_of(1 << 30)
    may_send, begun, counts = asyncio.Semaphore(0), 0, list[int]()

    async def incoming() -> AsyncIterator[tuple[int, Parked]]:
        for number in mebibytes:
            yield number, parked(share)

    async def work() -> None:
        nonlocal begun
        async for turn in exchange.turns():
            begun += 1
            exchange.answer(turn, bytes(turn.request << 20))

    async def send(_content: bytes) -> None:
        await may_send.acquire()

    exchange = open_exchange(incoming(), share)
    async with asyncio.TaskGroup() as group:
        group.create_task(exchange.run(work(), send))
        for _ in mebibytes:
            await settle()
            counts.append(begun)
            may_send.release()
    return counts


async def settle() -> None:
    """Waits until everything that can happen now has happened; this many turns of the loop suffice."""
    for _ in range(100):
        await asyncio.sleep(0)


async def test_an_idle_stream_holds_no_answer_that_is_sent() -> None:
    """A sent answer no longer counts."""
    size_bytes, sent = 4 << 20, asyncio.Event()

    async def incoming() -> AsyncIterator[tuple[int, Parked]]:
        yield 4, parked()
        await asyncio.Event().wait()

    async def work() -> None:
        async for turn in exchange.turns():
            exchange.answer(turn, bytes(size_bytes))

    async def send(_content: bytes) -> None:
        sent.set()

    exchange = open_exchange(incoming())
    tracemalloc.start()
    running = asyncio.create_task(exchange.run(work(), send))
    await sent.wait()
    await settle()
    held_bytes = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    running.cancel()
    await asyncio.wait([running])

    assert held_bytes < size_bytes


async def test_answers_that_nobody_takes_are_bounded_in_bytes() -> None:
    """A request waits until its largest answer has room beside the unsent ones; one can always proceed."""
    assert MAX_STREAM_BYTES == 80 << 20
    assert await count_begun([1] * 6) == [4, 5, 6, 6, 6, 6]
    assert await count_begun([64, 8, 64, 64]) == [2, 3, 3, 4]
    assert await count_begun([100, 100, 1]) == [1, 2, 3]


async def test_streams_leave_each_other_room() -> None:
    """The bytes of all streams count for each, and one caller may use half. All are given back at the end."""
    share = share_of(8 << 20)

    assert await count_begun([2, 2, 2, 2], share) == [1, 2, 3, 4]
    assert share.bytes.held_bytes == 0


async def test_large_requests_of_a_caller_wait_for_its_other_streams() -> None:
    """Small ones continue, one at a time."""
    share = share_of(8 << 20)
    share.bytes.change(8 << 20)  # its other streams hold this much

    assert await count_begun([0], share) == [1]
    large = asyncio.create_task(count_begun([2], share))
    await settle()  # lets the request begin, if it may
    share.bytes.change(-(8 << 20))

    assert await large == [0]


async def test_a_request_that_waits_for_room_counts_until_its_stream_ends() -> None:
    """Until then its bytes are not available to others; afterwards they are."""
    share = share_of(8 << 20)
    share.bytes.change(8 << 20)  # its other streams hold this much
    before = share.bytes.held_bytes
    waiting = asyncio.create_task(count_begun([2], share))
    await settle()  # lets the request arrive
    held = share.bytes.held_bytes
    waiting.cancel()
    await asyncio.wait([waiting])

    assert held == before + REQUEST_COPIES
    assert (share.bytes.held_bytes, share.bytes.parked_bytes) == (before, 0)


async def test_answers_with_images_are_made_one_at_a_time() -> None:
    """Each may be as large as an answer may be at all."""
    catalog = SlowCatalog()
    async with open_api(catalog=catalog) as api:
        await api.fill(item("temple", TEMPLE), item("flower", FLOWER))
        stream = api.search.SearchStream()
        for number in range(20):
            await stream.write(ask(str(number), query(id="temple"), return_images=True))
        await asyncio.wait_for(catalog.entered.wait(), PATIENCE_S)
        for _ in range(20):
            await api.items.CountItems(items.CountItemsRequest())
        at_once = catalog.waiting
        catalog.may_go.set()
        await stream.done_writing()
        answers = [answer.response.hits[0].image async for answer in stream]

    assert at_once == 1
    assert answers == [FLOWER] * 20


class SlowCatalog(MemoryCatalog):
    """A catalog whose images wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = 0
        self.entered, self.may_go = asyncio.Event(), asyncio.Event()

    async def image(self, collection: int, id: str) -> bytes | None:  # noqa: A002 - the port's name for it
        """Returns the image when the test allows it."""
        self.waiting += 1
        self.entered.set()
        await self.may_go.wait()
        self.waiting -= 1
        return await super().image(collection, id)
