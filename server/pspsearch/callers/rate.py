"""How often one caller may call."""

import asyncio
import math
from collections.abc import Awaitable, Callable

from pspsearch.errors import RateExceeded


class CallRate:
    """Lets a caller call so often a second; the calls of one second can be saved up.

    A call that comes too early is refused; a request of a stream waits, and so does its sender.
    """

    def __init__(
        self,
        caller: str,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.calls_per_s = 1.0
        """More than 0; it may change at any time."""
        self._caller = caller
        self._clock = clock
        self._sleep = sleep
        self._calls = math.inf
        """How many calls are saved up; negative while requests of streams wait, infinite before the first call."""
        self._since = clock()

    def take(self) -> None:
        """Spends one saved call; RateExceeded if there is none."""
        saved = self._earn()
        if saved < 1:
            wait_s = (1 - saved) / self.calls_per_s
            raise RateExceeded(f"{self._caller} calls more than {self.calls_per_s:g} times a second", wait_s)
        self._calls = saved - 1

    async def wait(self) -> bool:
        """Spends a call for a request of a stream, returns when it is earned, and says whether that took time."""
        self._calls = self._earn() - 1
        if self._calls >= 0:
            return False
        try:
            await self._sleep(-self._calls / self.calls_per_s)
        except asyncio.CancelledError:
            self._calls += 1
            raise
        return True

    def _earn(self) -> float:
        """Saves up what has been earned by now, and returns how many calls are saved up."""
        now = self._clock()
        self._calls = min(max(1.0, self.calls_per_s), self._calls + (now - self._since) * self.calls_per_s)
        self._since = now
        return self._calls
