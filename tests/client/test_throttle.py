"""Which calls a client does not send while the server refuses many of them."""

import contextlib
import random
from collections.abc import AsyncIterator, Iterator

import grpc
import pytest

from pspsearch.client import AsyncClient, Client, ItemId
from pspsearch.client.throttle import Throttle
from pspsearch.errors import NotFound, Overloaded
from tests.servers.api_server import error_status
from tests.servers.either_client import EitherClient, connected
from tests.servers.scripted_server import ScriptedServer

FULL = error_status(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")


class Clocked:
    """A throttle that gets a call every few milliseconds."""

    def __init__(self, step_s: float = 0.01) -> None:
        self._now, self._step_s = 0.0, step_s
        self._throttle = Throttle(lambda: self._now, random.Random(0).random)

    def call(self, *, taken: bool) -> bool:
        """Makes a call, and returns whether it was sent."""
        self._now += self._step_s
        sent = False
        with contextlib.suppress(Overloaded), self._throttle.call():
            sent = True
            if not taken:
                raise Overloaded("full")
        return sent


def test_few_more_calls_are_sent_than_are_answered() -> None:
    """Five times as many calls come as the server takes, which takes one in five."""
    throttle, room, sent, taken = Clocked(step_s=0.001), 0.0, 0, 0
    for number in range(20_000):
        room += 0.2
        if throttle.call(taken=room >= 1):
            sent += number >= 10_000
            taken += number >= 10_000 and room >= 1
            room -= room >= 1

    assert taken > 1_900
    assert 1.2 < sent / taken < 1.5


def test_some_refusals_stop_nobody() -> None:
    """Forty in a row do not, nor one in five for ever."""
    few, many = Clocked(), Clocked()

    assert all(few.call(taken=False) for _ in range(40))
    assert all(many.call(taken=number % 5 > 0) for number in range(10_000))


def test_all_is_sent_again_soon_after_the_server_has_recovered() -> None:
    """This is so even if the server took nothing for long: it takes twenty seconds at most."""
    throttle = Clocked()
    for _ in range(2_000):
        throttle.call(taken=False)
    for _ in range(2_000):
        throttle.call(taken=True)

    assert all(throttle.call(taken=True) for _ in range(1_000))


def test_calls_under_way_count_for_nothing() -> None:
    """A thousand calls at once are all sent, and as many again."""
    throttle, sent = Throttle(), 0
    for _ in range(2):
        with contextlib.ExitStack() as under_way:
            for _ in range(1_000):
                under_way.enter_context(throttle.call())
                sent += 1

    assert sent == 2_000


def test_other_failures_are_answers() -> None:
    """A server that refuses a request for its content is not overloaded."""
    throttle = Throttle()
    for _ in range(1_000):
        with pytest.raises(NotFound), throttle.call():
            raise NotFound("there is no such item")


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A server for one test."""
    with ScriptedServer() as server:
        yield server


@pytest.fixture(params=[Client, AsyncClient])
async def ask(server: ScriptedServer, request: pytest.FixtureRequest) -> AsyncIterator[EitherClient]:
    """Calls each of the clients, connected."""
    async with connected(request.param(server.address)) as ask:
        yield ask


async def test_both_clients_spare_a_server_that_is_full(server: ScriptedServer, ask: EitherClient) -> None:
    """The caller gets the same error as from the server's own refusals."""
    server.failures.extend([FULL] * 300)
    words: list[str] = []
    for _ in range(300):
        with pytest.raises(Overloaded) as refused:
            await ask("search", ItemId("a"))
        words.append(str(refused.value))

    assert words[:50] == ["full"] * 50
    assert 50 < len(server.requests) < 250
    assert words.count("the server refuses many calls, and this one was not sent") == 300 - len(server.requests)
