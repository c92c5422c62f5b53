"""When the clients try again, and when they do not."""

from collections.abc import AsyncIterator, Iterator

import grpc
import pytest

from pspsearch.client import AsyncClient, Client, ItemId, ItemInput, Retries, ServerFailed, ServerUnavailable
from pspsearch.client.retries import Attempts, RetryBudget
from pspsearch.errors import DeadlineExceeded, InvalidRequest, Overloaded
from tests.servers.api_server import error_status, reason
from tests.servers.either_client import EitherClient, connected
from tests.servers.scripted_server import ScriptedServer

QUICK = Retries(attempts=4, first_delay_s=0.001, budget=3)
DOWN = error_status(grpc.StatusCode.UNAVAILABLE, "Triton is away", reason("TRITON_UNAVAILABLE"))


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


async def test_unavailable_is_tried_again(server: ScriptedServer, ask: EitherClient) -> None:
    """Two temporary failures come before the answer."""
    server.failures.extend([DOWN, DOWN])

    result = await ask("search", ItemId("a"))

    assert result.hits == ()
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidRequest),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Overloaded),
        (grpc.StatusCode.INTERNAL, ServerFailed),
    ],
)
async def test_nothing_else_is_tried_again(
    server: ScriptedServer, ask: EitherClient, code: grpc.StatusCode, error: type[Exception]
) -> None:
    """A wrong request stays wrong, and an overloaded server should be left alone."""
    server.failures.append(error_status(code, "no"))

    with pytest.raises(error, match="no"):
        await ask("search", ItemId("a"))

    assert len(server.requests) == 1


async def test_repeated_write_carries_the_id_of_its_call(server: ScriptedServer, ask: EitherClient) -> None:
    """The server recognises a repetition by it, and the next call has another."""
    server.failures.extend([DOWN, DOWN])

    await ask("upsert", [ItemInput("a", b"image")])
    await ask("delete", ["a"])

    ids = [request.request_id for request in server.requests]
    assert len(ids) == 4
    assert len(set(ids[:3])) == 1
    assert ids[0] != ids[3]
    assert all(ids)


async def test_write_without_an_id_is_made_once(server: ScriptedServer, ask: EitherClient) -> None:
    """A collection may have been created although the answer was lost."""
    server.failures.append(DOWN)

    with pytest.raises(Exception, match="Triton is away"):
        await ask("create_collection", "shoes")

    assert len(server.requests) == 1


async def test_budget_ends_the_retries_of_all_calls(server: ScriptedServer, ask: EitherClient) -> None:
    """There are three retries in all: the first call uses them up, the second has none."""
    server.failures.extend([DOWN] * 10)

    for _ in range(2):
        with pytest.raises(Exception, match="Triton is away"):
            await ask("search", ItemId("a"))

    assert len(server.requests) == 4 + 1


async def test_deadline_ends_the_call(server: ScriptedServer) -> None:
    """A server that never answers does not hold up its caller for ever."""
    server.hangs = True

    async with AsyncClient(server.address, timeout_s=0.05) as client:
        with pytest.raises(DeadlineExceeded, match=f"{server.address} did not answer in time"):
            await client.search(ItemId("a"))
    with Client(server.address, timeout_s=0.05) as client, pytest.raises(DeadlineExceeded):
        client.search(ItemId("a"))


async def test_nobody_there_is_a_sentence() -> None:
    """Nothing listens on port 1."""
    with Client("127.0.0.1:1", retries=QUICK) as client, pytest.raises(ServerUnavailable, match=r"127\.0\.0\.1:1"):
        client.count()
    async with AsyncClient("127.0.0.1:1", retries=QUICK) as client:
        with pytest.raises(ServerUnavailable, match=r"127\.0\.0\.1:1"):
            await client.count()


def test_answers_earn_retries_back() -> None:
    """Ten answers pay for one retry, and the budget is the most that can be saved up."""
    budget = RetryBudget(1)
    for _ in range(100):
        budget.earn()

    assert budget.spend()
    assert not budget.spend()
    for _ in range(9):
        budget.earn()
    assert not budget.spend()
    for _ in range(2):  # an eleventh, as a sum of ten tenths falls short
        budget.earn()
    assert budget.spend()


def test_pauses_grow_to_their_limit() -> None:
    """Each is below a bound, which doubles up to the longest pause."""
    retries = Retries(attempts=100, first_delay_s=1, max_delay_s=4, budget=99)
    attempts = Attempts(retries, RetryBudget(99), None, repeatable=True)

    pauses = [attempts.pause_s() for _ in range(99)]

    bounds = [1, 2] + [4] * 97
    assert all(pause is not None and pause <= bound for pause, bound in zip(pauses, bounds, strict=True))
    assert attempts.pause_s() is None
