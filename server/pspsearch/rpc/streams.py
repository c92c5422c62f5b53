"""Bidirectional streams, at the pace of the slower side."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

from pspsearch.callers.budget import ALWAYS_BYTES, Parked
from pspsearch.callers.quota import Quota
from pspsearch.search.pages import MAX_CARRIED_BYTES

_Request = TypeVar("_Request")

Requests = AsyncIterator[tuple[_Request, Parked]]
"""The requests of a stream as they arrive, each with the bytes that it holds."""

MAX_STREAM_BYTES = MAX_CARRIED_BYTES + (16 << 20)
"""The most bytes of one stream's requests and answers: room for the largest answer while others are sent."""


class Turn(Generic[_Request]):
    """One request of a stream, which must be answered once."""

    def __init__(self, request: _Request, held_bytes: int) -> None:
        self.request = request
        self.held_bytes = held_bytes
        """The bytes that count for the request and its answer."""


class Exchange(Generic[_Request]):
    """One stream. At most `bound` of its requests are under way, and no more than the caller's quota allows.

    A request is under way until its answer is sent. It begins when there is room for it and its largest possible
    answer, given what the stream, its caller and all callers already hold. However little room there is, each stream
    can always have one small request under way, and each caller one of any size.
    """

    def __init__(
        self,
        incoming: Requests[_Request],
        bound: int,
        quota: Quota,
        most_bytes: Callable[[_Request], int],
    ) -> None:
        """`most_bytes` gives the largest size that the answer to a request can have."""
        self._incoming = incoming
        self._free = asyncio.Semaphore(bound)
        self._quota = quota
        self._most_bytes = most_bytes
        self._taken = 0
        self._held_bytes = 0
        self._ready: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def turns(self) -> AsyncIterator[Turn[_Request]]:
        """The requests, each of which must be answered once. Raises InvalidRequest if one cannot be read."""
        while await self._free.acquire():
            came = await anext(self._incoming, None)
            if came is None:
                return
            request, parked = came
            turn = Turn(request, parked.size_bytes + self._most_bytes(request))
            del came, request
            await self._make_room(parked, turn.held_bytes)
            await self._quota.take()
            self._taken += 1
            yield turn

    def answer(self, turn: Turn[_Request], content: bytes) -> None:
        """Queues an answer to be sent after the earlier ones, and drops the request."""
        del turn.request
        self._hold(len(content) - turn.held_bytes)
        self._ready.put_nowait(content)

    async def run(self, work: Coroutine[Any, Any, None], send: Callable[[bytes], Awaitable[None]]) -> None:
        """Runs `work` and sends its answers until it ends. Cancels it if sending fails."""
        task = asyncio.create_task(work)
        task.add_done_callback(lambda _: self._ready.put_nowait(None))
        try:
            while (content := await self._ready.get()) is not None:
                await send(content)
                self._hold(-len(content))
                self._give_back(1)
                self._free.release()
                del content
            await task
        finally:
            task.cancel()
            task.add_done_callback(self._end)  # a callback, since the wait below may be cancelled
            await asyncio.gather(task, return_exceptions=True)

    def _end(self, _: object) -> None:
        self._give_back(self._taken)
        self._hold(-self._held_bytes)

    async def _make_room(self, parked: Parked, size_bytes: int) -> None:
        """Waits until the request may hold `size_bytes`, and then holds them instead of its parked bytes."""
        with parked:
            while not self._has_room(parked, size_bytes):
                await self._quota.bytes.wait()
            self._hold(size_bytes)

    def _has_room(self, parked: Parked, size_bytes: int) -> bool:
        if not self._held_bytes and size_bytes <= ALWAYS_BYTES:
            return True
        is_within = not self._held_bytes or self._held_bytes + size_bytes <= MAX_STREAM_BYTES
        return is_within and self._quota.bytes.may_begin(size_bytes - parked.size_bytes)

    def _hold(self, size_bytes: int) -> None:
        self._held_bytes += size_bytes
        self._quota.bytes.change(size_bytes)

    def _give_back(self, count: int) -> None:
        self._taken -= count
        self._quota.give_back(count)
