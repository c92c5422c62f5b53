"""Counts the calls that use an open generation, so that it is closed only when none does."""

import asyncio
import contextlib
from collections.abc import Generator


class Usage:
    """The calls that use a generation. Only tasks of one event loop may use it."""

    def __init__(self) -> None:
        self._calls = 0
        self._closing = False
        self._unused = asyncio.Event()
        """Set when the generation is closing and the last call has ended."""

    @contextlib.contextmanager
    def by_a_call(self) -> Generator[None]:
        """Keeps the generation open until the block ends."""
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1
            if self._closing and not self._calls:
                self._unused.set()

    async def ended(self) -> None:
        """Waits for the last call to end; no call may begin from now on."""
        self._closing = True
        if self._calls:
            await self._unused.wait()

    def go_on(self) -> None:
        """Undoes `ended`: calls may begin again."""
        self._closing, self._unused = False, asyncio.Event()
