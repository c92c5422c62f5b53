"""Who uses an open generation, so that it is closed when nobody does any more."""

import asyncio
import contextlib
from collections.abc import Generator


class Usage:
    """The calls that use a generation; for the tasks of one event loop."""

    def __init__(self) -> None:
        self._calls = 0
        self._closing = False
        self._unused = asyncio.Event()
        """Set when it is closing and the last call has gone."""

    @contextlib.contextmanager
    def by_a_call(self) -> Generator[None]:
        """The generation is not closed before the block ends."""
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1
            if self._closing and not self._calls:
                self._unused.set()

    async def ended(self) -> None:
        """Waits for the last call; from now on none may begin."""
        self._closing = True
        if self._calls:
            await self._unused.wait()

    def go_on(self) -> None:
        """After `ended`: calls may begin as before."""
        self._closing, self._unused = False, asyncio.Event()
