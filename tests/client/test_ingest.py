"""Ingest streams: broken streams, slow servers, bad items."""

import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import Random

import grpc
import pytest

from pspsearch.client import AsyncClient, Client, ItemInput, Retries, ServerUnavailable
from pspsearch.client.window import Outgoing, Window
from pspsearch.domain import Outcome
from pspsearch.errors import ImageTooLarge, InvalidRequest, NotFound, Overloaded
from pspsearch.v1 import item_service_pb2 as items
from tests.servers.api_server import MAX_MESSAGE_BYTES, abort, error_status, reason
from tests.servers.either_client import EitherClient, connected
from tests.servers.scripted_server import Requests, Responses, ScriptedServer, acknowledged

QUICK = Retries(attempts=10, first_delay_s=0.001, max_delay_s=0.01, budget=1000)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A server for one test."""
    with ScriptedServer() as server:
        yield server


@pytest.fixture(params=[Client, AsyncClient])
async def ask(server: ScriptedServer, request: pytest.FixtureRequest) -> AsyncIterator[EitherClient]:
    """Calls each of the clients, connected."""
    async with connected(request.param(server.address, retries=QUICK)) as ask:
        yield ask


def inputs(count: int) -> Iterator[ItemInput]:
    """Small items."""
    return (ItemInput(f"item {number}", b"%d" % number) for number in range(count))


@pytest.mark.parametrize("seed", range(5))
async def test_broken_streams_lose_and_double_nothing(server: ScriptedServer, ask: EitherClient, seed: int) -> None:
    """The server breaks often, also between a write and its answer. Each item is acknowledged exactly once."""
    random = Random(seed)
    stored: dict[str, bytes] = {}
    streams: set[grpc.ServicerContext] = set()

    def break_often(requests: Requests, context: grpc.ServicerContext) -> Responses:
        for request in requests:
            streams.add(context)
            assert request.collection == "shoes"
            stored[request.item.id] = request.item.image
            if random.random() < 0.1:
                abort(context, error_status(grpc.StatusCode.UNAVAILABLE, "gone"))
            yield acknowledged(request)

    server.ingest = break_often

    acknowledgements = await ask("ingest", inputs(100), collection="shoes", max_unacknowledged=16)

    assert sorted(one.id for one in acknowledgements) == sorted(one.id for one in inputs(100))
    assert all(one.outcome is Outcome.CREATED for one in acknowledgements)
    assert stored == {one.id: one.source for one in inputs(100)}
    assert len(streams) > 3


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED])
async def test_item_that_may_pass_is_sent_again(
    server: ScriptedServer, ask: EitherClient, code: grpc.StatusCode
) -> None:
    """Triton was away when the item's turn came; the caller gets only the final acknowledgement."""
    refused: set[str] = set()

    def refuse_each_once(requests: Requests, _context: grpc.ServicerContext) -> Responses:
        for request in requests:
            if request.item.id in refused:
                yield acknowledged(request)
            else:
                refused.add(request.item.id)
                yield acknowledged(request, error_status(code, "not now"))

    server.ingest = refuse_each_once

    acknowledgements = await ask("ingest", inputs(1))

    assert [(one.id, one.outcome, one.error) for one in acknowledgements] == [("item 0", Outcome.CREATED, None)]


async def test_one_stream_is_enough_for_a_good_server(server: ScriptedServer, ask: EitherClient) -> None:
    """This is so even if the items end before the first is acknowledged."""
    streams: list[int] = []

    def acknowledge(requests: Requests, _context: grpc.ServicerContext) -> Responses:
        streams.append(0)
        for request in requests:
            streams[-1] += 1
            yield acknowledged(request)

    server.ingest = acknowledge

    acknowledgements = await ask("ingest", inputs(20))

    assert len(acknowledgements) == 20
    assert streams == [20]


async def test_server_that_stays_away_is_given_up(server: ScriptedServer, ask: EitherClient) -> None:
    """Without progress the attempts run out."""
    begun: list[None] = []

    def refuse(_requests: Requests, context: grpc.ServicerContext) -> Responses:
        begun.append(None)
        abort(context, error_status(grpc.StatusCode.UNAVAILABLE, "gone for good"))
        yield from ()

    server.ingest = refuse

    # the second is what grpc.aio makes of it if a write crosses with it
    with pytest.raises(ServerUnavailable, match=r"gone for good|ended the stream"):
        await ask("ingest", inputs(3))

    assert len(begun) == QUICK.attempts


async def test_server_that_ends_early_is_asked_again(server: ScriptedServer, ask: EitherClient) -> None:
    """A stream that ends well before its last acknowledgement counts as broken."""

    def take_one(requests: Requests, _context: grpc.ServicerContext) -> Responses:
        yield acknowledged(next(requests))

    server.ingest = take_one

    acknowledgements = await ask("ingest", inputs(5))

    assert [one.id for one in acknowledgements] == [one.id for one in inputs(5)]


async def test_wrong_collection_ends_the_ingest(server: ScriptedServer, ask: EitherClient) -> None:
    """An error that will not pass is raised at once."""

    def refuse(requests: Requests, context: grpc.ServicerContext) -> Responses:
        next(requests)
        abort(context, error_status(grpc.StatusCode.NOT_FOUND, "there is no collection 'shoes'", reason("NOT_FOUND")))
        yield from ()

    server.ingest = refuse

    with pytest.raises(NotFound, match="there is no collection 'shoes'"):
        await ask("ingest", inputs(3), collection="shoes")


async def test_slow_server_is_never_owed_more_than_the_window(server: ScriptedServer, ask: EitherClient) -> None:
    """The server reads all it can, and after the first item acknowledges only when it has read a whole window."""
    window, count = 4, 60
    changed = threading.Condition()
    received: list[items.IngestItemsRequest] = []
    sent = 0
    most_owed = 0

    def read(requests: Requests) -> None:
        nonlocal most_owed
        for request in requests:
            with changed:
                received.append(request)
                most_owed = max(most_owed, len(received) - sent)
                changed.notify()

    def acknowledge_late(requests: Requests, _context: grpc.ServicerContext) -> Responses:
        nonlocal sent
        threading.Thread(target=read, args=(requests,), daemon=True).start()
        for number in range(count):
            with changed:
                expected = min(number + window, count) if number else 1
                changed.wait_for(lambda expected=expected: len(received) >= expected)
                sent += 1
            yield acknowledged(received[number])

    server.ingest = acknowledge_late

    acknowledgements = await ask("ingest", inputs(count), max_unacknowledged=window)

    assert len(acknowledgements) == count
    assert most_owed == window


async def test_unreadable_files_are_acknowledged_with_their_reason(ask: EitherClient, tmp_path: Path) -> None:
    """A missing file, or attributes that are not JSON, do not affect the others."""
    (tmp_path / "a.jpg").write_bytes(b"image")
    given = [
        ItemInput("a", tmp_path / "a.jpg", {"price": 3}),
        ItemInput("b", tmp_path / "b.jpg"),
        ItemInput("c", b"image", {"price": float("nan")}),
    ]

    acknowledgements = await ask("ingest", given)

    errors = {one.id: one.error for one in acknowledgements}
    assert errors.pop("a") is None
    assert isinstance(errors["b"], InvalidRequest)
    assert str(errors["b"]) == f"{tmp_path / 'b.jpg'} cannot be read: No such file or directory"
    assert isinstance(errors["c"], InvalidRequest)
    assert "the item 'c' cannot be sent" in str(errors["c"])


async def test_item_longer_than_a_message_spares_the_others(ask: EitherClient) -> None:
    """gRPC ends the stream because of it; the others are sent again without it."""
    given = [ItemInput("small", b"1"), ItemInput("long", bytes(MAX_MESSAGE_BYTES)), ItemInput("other", b"2")]

    acknowledgements = await ask("ingest", given)

    errors = {one.id: one.error for one in acknowledgements}
    assert len(acknowledgements) == 3
    assert isinstance(errors.pop("long"), ImageTooLarge)
    assert errors == {"small": None, "other": None}


async def test_error_of_the_callers_items_is_raised(ask: EitherClient) -> None:
    """Items before the error are still acknowledged."""

    def fail() -> Iterator[ItemInput]:
        yield from inputs(2)
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        await ask("ingest", fail())


def test_caller_that_leaves_ends_the_stream(server: ScriptedServer) -> None:
    """The call is cancelled, and the caller's items are read no further."""
    ended = threading.Event()
    taken: list[int] = []

    def acknowledge(requests: Requests, context: grpc.ServicerContext) -> Responses:
        context.add_callback(ended.set)
        for request in requests:
            yield acknowledged(request)

    def endless() -> Iterator[ItemInput]:
        while True:
            taken.append(len(taken))
            yield ItemInput(str(len(taken)), b"image")

    server.ingest = acknowledge
    with Client(server.address) as client:
        acknowledgements = client.ingest(endless(), max_unacknowledged=2)
        next(acknowledgements)
        acknowledgements.close()

        assert ended.wait(10)


async def test_caller_that_leaves_ends_the_awaited_stream(server: ScriptedServer) -> None:
    """The client that awaits does the same."""
    ended = threading.Event()

    def acknowledge(requests: Requests, context: grpc.ServicerContext) -> Responses:
        context.add_callback(ended.set)
        for request in requests:
            yield acknowledged(request)

    server.ingest = acknowledge
    async with AsyncClient(server.address) as client:
        acknowledgements = client.ingest(inputs(1000), max_unacknowledged=2)
        await anext(acknowledgements)
        await acknowledgements.aclose()

        assert ended.wait(10)


async def test_overload_is_given_up_as_overload(server: ScriptedServer, ask: EitherClient) -> None:
    """After its attempts the client raises the server's error."""

    def refuse(requests: Requests, _context: grpc.ServicerContext) -> Responses:
        for request in requests:
            yield acknowledged(request, error_status(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", reason("OVERLOADED")))

    server.ingest = refuse

    with pytest.raises(Overloaded, match="full"):
        await ask("ingest", inputs(3))


def outgoing(name: str, size_bytes: int = 10) -> Outgoing:
    """An item of about this size."""
    return Outgoing.of(items.ItemInput(id=name, image=bytes(size_bytes)))


def test_window_is_bounded_in_bytes() -> None:
    """A few large items fill it, and one item always fits."""
    window = Window("shoes", max_items=100, max_bytes=1000)

    assert window.has_room(outgoing("huge", 5000))
    window.add(outgoing("a", 600))
    assert not window.has_room(outgoing("b", 600))
    assert window.has_room(outgoing("b", 300))


def test_two_of_one_id_are_never_under_way_together() -> None:
    """Otherwise a repetition after a broken stream could store the older one last."""
    window = Window("shoes", max_items=100, max_bytes=1000)
    window.add(outgoing("a"))

    assert not window.has_room(outgoing("a"))
    assert window.acknowledge(acknowledged(window.take())) is not None
    assert window.has_room(outgoing("a"))
