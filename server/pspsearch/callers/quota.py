"""How much one caller may have under way at once."""

import asyncio
import contextlib
from collections.abc import Generator

from pspsearch.callers.budget import Budget
from pspsearch.errors import Overloaded


class Quota:
    """Bounds a caller's calls and requests of streams together, and its open streams apart.

    The two bounds are the same, because an open stream costs little. A call or stream that is one too many is refused;
    a request of a stream waits, and so does its sender.
    """

    def __init__(self, caller: str, most: int, budget: Budget) -> None:
        """`most` 0 is no bound. All callers share the budget."""
        self.bytes = budget.account(caller)
        self.users = 0
        """How many calls and streams of the caller use this quota."""
        self._caller = caller
        self._most = most
        self._requests = 0
        self._streams = 0
        self._changed = asyncio.Event()

    @contextlib.contextmanager
    def call(self) -> Generator[None]:
        """Counts the block as one call; Overloaded if it is one too many."""
        if self._is_full(self._requests):
            raise Overloaded(f"{self._caller} has {self._most} calls under way already")
        self._requests += 1
        try:
            yield
        finally:
            self.give_back()

    @contextlib.contextmanager
    def stream(self) -> Generator[None]:
        """Counts the block as one stream, without its requests; Overloaded if it is one too many."""
        if self._is_full(self._streams):
            raise Overloaded(f"{self._caller} has {self._most} streams open already")
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

    async def take(self) -> None:
        """Waits until there is room for a request of a stream, and counts it."""
        while self._is_full(self._requests):
            self._changed.clear()
            await self._changed.wait()
        self._requests += 1

    def give_back(self, count: int = 1) -> None:
        """Counts so many calls or requests as done."""
        self._requests -= count
        self._changed.set()

    def _is_full(self, count: int) -> bool:
        return bool(self._most) and count >= self._most
