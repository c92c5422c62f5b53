"""The bytes of messages that callers make the server hold."""

import asyncio
import contextlib
from collections.abc import Generator

from pspsearch.config import REQUEST_COPIES, ServingSettings
from pspsearch.errors import Overloaded
from pspsearch.memory import available_bytes

_PART = 8
"""Of the memory."""
SMALL_BYTES = REQUEST_COPIES << 16
"""A call that has no more counts for nothing: others' bytes do not keep it out."""


def budget_for(settings: ServingSettings) -> int:
    """What is set, or else a part of the memory."""
    return settings.max_bytes_under_way or max(available_bytes() // _PART, settings.least_bytes_under_way)


class Budget:
    """What all callers may have together, of which one may have half; for the tasks of one event loop."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.held_bytes = 0
        self._changed = asyncio.Event()

    def account(self, caller: str) -> "Account":
        """One caller's part, with nothing in it."""
        return Account(self, caller)

    def change(self, size_bytes: int) -> None:
        """So much more is held, or less."""
        self.held_bytes += size_bytes
        if size_bytes < 0:
            self._changed.set()

    async def wait(self) -> None:
        """Until something is given back."""
        self._changed.clear()
        await self._changed.wait()


class Account:
    """What one caller makes the server hold."""

    def __init__(self, budget: Budget, caller: str) -> None:
        self._budget = budget
        self._caller = caller
        self.held_bytes = 0

    @contextlib.contextmanager
    def hold(self, size_bytes: int) -> Generator[None]:
        """While the block lasts; Overloaded where there is no room for it."""
        size_bytes = size_bytes if size_bytes > SMALL_BYTES else 0
        if size_bytes and not self.has_room(size_bytes):
            raise Overloaded(
                f"the requests that the server holds leave no room for {size_bytes:,} bytes of {self._caller}"
            )
        self.change(size_bytes)
        try:
            yield
        finally:
            self.change(-size_bytes)

    def change(self, size_bytes: int) -> None:
        """So much more is held, or less, whether there is room or not."""
        self.held_bytes += size_bytes
        self._budget.change(size_bytes)

    def has_room(self, size_bytes: int) -> bool:
        """Whether so much more may be held."""
        most = self._budget.most_bytes
        return self.held_bytes + size_bytes <= most // 2 and self._budget.held_bytes + size_bytes <= most

    async def wait(self) -> None:
        """Until anybody has given something back."""
        await self._budget.wait()
