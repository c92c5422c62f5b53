"""The bytes of messages that callers make the server hold."""

import asyncio
import contextlib
from collections.abc import Generator
from typing import Self

from pspsearch.config import REQUEST_COPIES, ServingSettings
from pspsearch.errors import Overloaded
from pspsearch.memory import available_bytes, give_back

_PART = 8
"""Of the memory."""
_LARGE_BYTES = 16 << 20
"""What is given back of a call, so that the kernel gets back soon what the C library would keep of it."""
_SOON_S = 0.1
SMALL_BYTES = REQUEST_COPIES << 16
"""A call that has no more counts for nothing: others' bytes do not keep it out."""
ALWAYS_BYTES = 1 << 20
"""A stream gets on with a request that takes no more, its answer with it, however little room there is."""


def budget_for(settings: ServingSettings) -> int:
    """What is set, or else a part of the memory."""
    return settings.max_bytes_under_way or max(available_bytes() // _PART, settings.least_bytes_under_way)


class Budget:
    """What all callers may have together, of which one may have half; for the tasks of one event loop."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.held_bytes = 0
        self._changed = asyncio.Event()
        self._gives_back = False

    def account(self, caller: str) -> "Account":
        """One caller's part, with nothing in it."""
        return Account(self, caller)

    def change(self, size_bytes: int) -> None:
        """So much more is held, or less."""
        self.held_bytes += size_bytes
        if size_bytes < 0:
            self._changed.set()
        if size_bytes < -_LARGE_BYTES and not self._gives_back:
            self._gives_back = True
            asyncio.get_running_loop().call_later(_SOON_S, self._give_back)

    def _give_back(self) -> None:
        self._gives_back = False
        asyncio.get_running_loop().run_in_executor(None, give_back)

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
        self.parked_bytes = 0
        """Of them, by requests of streams that are not begun."""

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

    async def park(self, size_bytes: int) -> "Parked":
        """Waits until there is room, unless it is little."""
        while size_bytes > ALWAYS_BYTES and self.held_bytes and not self.has_room(size_bytes):
            await self.wait()
        return Parked(self, size_bytes)

    def change(self, size_bytes: int) -> None:
        """So much more is held, or less, whether there is room or not."""
        self.held_bytes += size_bytes
        self._budget.change(size_bytes)

    def has_room(self, size_bytes: int) -> bool:
        """Whether so much more may be held."""
        most = self._budget.most_bytes
        return self.held_bytes + size_bytes <= most // 2 and self._budget.held_bytes + size_bytes <= most

    def may_begin(self, size_bytes: int) -> bool:
        """Of a parked request, with so much more: there is room, or the caller has nothing under way to wait for."""
        return self.held_bytes == self.parked_bytes or self.has_room(size_bytes)

    async def wait(self) -> None:
        """Until anybody has given something back."""
        await self._budget.wait()


class Parked:
    """A request of a stream from when it is received until it is begun, at the latest until the block ends."""

    def __init__(self, account: Account, size_bytes: int) -> None:
        self._account = account
        self.size_bytes = size_bytes
        account.change(size_bytes)
        account.parked_bytes += size_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """It is begun, or dropped; the second time there is nothing to give back."""
        self._account.parked_bytes -= self.size_bytes
        self._account.change(-self.size_bytes)
        self.size_bytes = 0
