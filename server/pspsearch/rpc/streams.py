"""Streams both ways, at the pace of the slower side."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

from pspsearch.rpc.malformed import Malformed
from pspsearch.rpc.share import Share

_Request = TypeVar("_Request")
_Answer = TypeVar("_Answer")


class Exchange(Generic[_Request, _Answer]):
    """One such stream. No more requests than `bound`, or its caller's share, are under way; sending ends one."""

    def __init__(self, incoming: AsyncIterator[_Request], bound: int, share: Share) -> None:
        self._incoming = incoming
        self._free = asyncio.Semaphore(bound)
        self._share = share
        self._taken = 0
        self._ready: asyncio.Queue[_Answer | None] = asyncio.Queue()

    async def requests(self) -> AsyncIterator[_Request]:
        """Each has to be answered once, sooner or later. InvalidRequest where one cannot be read."""
        while await self._free.acquire():
            request = await anext(self._incoming, None)
            if request is None:
                return
            if isinstance(request, Malformed):
                raise request.error()
            await self._share.take()
            self._taken += 1
            yield request

    def answer(self, answer: _Answer) -> None:
        """Sends it when those before it are sent."""
        self._ready.put_nowait(answer)

    async def run(self, work: Coroutine[Any, Any, None], send: Callable[[_Answer], Awaitable[None]]) -> None:
        """Sends what `work` answers until it ends; ends it when nothing can be sent any more."""
        task = asyncio.create_task(work)
        task.add_done_callback(lambda _: self._ready.put_nowait(None))
        try:
            while (answer := await self._ready.get()) is not None:
                await send(answer)
                self._give_back(1)
                self._free.release()
            await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self._give_back(self._taken)

    def _give_back(self, count: int) -> None:
        self._taken -= count
        self._share.give_back(count)
