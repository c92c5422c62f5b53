"""How often one caller may call: a call is refused, and a stream's request waits."""

import asyncio

import pytest

from pspsearch.callers.rate import CallRate
from pspsearch.errors import RateExceeded


class Clock:
    """A clock that stands still, except for those who sleep by it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        """Moves the clock, and takes no time."""
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    """A clock at 0."""
    return Clock()


async def _sleep_for_ever(_: float) -> None:
    await asyncio.Event().wait()


def rate(clock: Clock, calls_per_s: float) -> CallRate:
    """A rate that uses that clock."""
    made = CallRate("shop", lambda: clock.now, clock.sleep)
    made.calls_per_s = calls_per_s
    return made


def test_call_that_is_too_early_is_told_when_to_come(clock: Clock) -> None:
    """It is let in then and not before; at most one second's calls are saved up."""
    two = rate(clock, 2.0)
    clock.now = 100.0
    two.take()
    two.take()
    clock.now += 0.125
    with pytest.raises(RateExceeded, match="shop calls more than 2 times a second") as refused:
        two.take()

    clock.now += refused.value.wait_s
    two.take()

    assert refused.value.wait_s == 0.375


@pytest.mark.parametrize(("calls_per_s", "slept"), [(0.5, [2.0, 2.0, 2.0]), (2.0, [0.5, 0.5])])
async def test_requests_of_streams_wait(clock: Clock, calls_per_s: float, slept: list[float]) -> None:
    """They wait for what is not saved up, and no longer; one call is always saved up at the start."""
    some = rate(clock, calls_per_s)

    waited = [await some.wait() for _ in range(4)]

    assert clock.slept == slept
    assert waited == [False] * (4 - len(slept)) + [True] * len(slept)


async def test_each_waits_for_those_before_it() -> None:
    """Many requests at once are let in one after the other, at the rate; meanwhile calls are refused."""
    slept: list[float] = []
    may_go = asyncio.Event()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await may_go.wait()

    one = CallRate("shop", lambda: 0.0, sleep)
    waiting = [asyncio.create_task(one.wait()) for _ in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(RateExceeded) as refused:
        one.take()
    may_go.set()
    await asyncio.gather(*waiting)

    assert slept == [1.0, 2.0, 3.0]
    assert refused.value.wait_s == 4.0


async def test_who_goes_away_gives_its_turn_back() -> None:
    """Otherwise a stream that is broken off would hold up those of the same caller after it."""
    one = CallRate("shop", lambda: 0.0, _sleep_for_ever)
    await one.wait()
    waiting = asyncio.create_task(one.wait())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)

    with pytest.raises(RateExceeded) as refused:
        one.take()
    assert refused.value.wait_s == 1.0
