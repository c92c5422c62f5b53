"""Counts and bounds the bytes of messages that callers make the server hold."""

import asyncio
import contextlib
from collections.abc import Generator
from typing import Self

from pspsearch.config import REQUEST_COPIES, ServingSettings
from pspsearch.errors import Overloaded
from pspsearch.memory import available_bytes, give_back

_PART = 8
"""Requests may take the memory divided by this, unless a bound is set."""
_LARGE_BYTES = 16 << 20
"""After a call gives back more than this, what the C library would keep of it soon goes to the kernel."""
_SOON_S = 0.1
SMALL_BYTES = REQUEST_COPIES << 16
"""A call of at most so many bytes is not counted, so that others' bytes never keep it out."""
ALWAYS_BYTES = 1 << 20
"""A stream's request of at most so many bytes, its answer included, is let in however little room there is."""


def budget_for(settings: ServingSettings) -> int:
    """The bytes that all callers may have together: what is set, or else a part of the memory."""
    return settings.max_bytes_under_way or max(available_bytes() // _PART, settings.least_bytes_under_way)


class Budget:
    """The bytes that all callers may have together; one caller may have half. For the tasks of one event loop."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.held_bytes = 0
        self._changed = asyncio.Event()
        self._gives_back = False

    def account(self, caller: str) -> "Account":
        """Opens an empty account for one caller."""
        return Account(self, caller)

    def change(self, size_bytes: int) -> None:
        """Counts so many bytes more, or fewer if the number is negative."""
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
        """Waits until something is given back."""
        self._changed.clear()
        await self._changed.wait()


class Account:
    """The bytes that one caller makes the server hold."""

    def __init__(self, budget: Budget, caller: str) -> None:
        self._budget = budget
        self._caller = caller
        self.held_bytes = 0
        self.parked_bytes = 0
        """The part of `held_bytes` for requests of streams that have arrived and not begun."""

    @contextlib.contextmanager
    def hold(self, size_bytes: int) -> Generator[None]:
        """Holds so many bytes for the block; Overloaded if there is no room for them."""
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
        """Waits until there is room for a request of a stream, unless it is small, and holds its bytes."""
        while size_bytes > ALWAYS_BYTES and self.held_bytes and not self.has_room(size_bytes):
            await self.wait()
        return Parked(self, size_bytes)

    def change(self, size_bytes: int) -> None:
        """Counts so many bytes more, or fewer if the number is negative, whether there is room or not."""
        self.held_bytes += size_bytes
        self._budget.change(size_bytes)

    def has_room(self, size_bytes: int) -> bool:
        """Whether so many more bytes may be held."""
        most = self._budget.most_bytes
        return self.held_bytes + size_bytes <= most // 2 and self._budget.held_bytes + size_bytes <= most

    def may_begin(self, size_bytes: int) -> bool:
        """Whether a parked request may begin and take so many more bytes.

        It may if there is room, or if the caller has nothing under way to wait for.
        """
        return self.held_bytes == self.parked_bytes or self.has_room(size_bytes)

    async def wait(self) -> None:
        """Waits until any caller gives something back."""
        await self._budget.wait()


class Parked:
    """Holds the bytes of a stream's request until it begins, or at the latest until the block ends."""

    def __init__(self, account: Account, size_bytes: int) -> None:
        self._account = account
        self.size_bytes = size_bytes
        account.change(size_bytes)
        account.parked_bytes += size_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Gives the bytes back when the request begins or is dropped; a second call gives back nothing."""
        self._account.parked_bytes -= self.size_bytes
        self._account.change(-self.size_bytes)
        self.size_bytes = 0
