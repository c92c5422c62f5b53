"""Runs slow work in one thread, piece by piece, and only once for all who wait for the same."""

import asyncio
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from pspsearch.errors import Overloaded

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class _Piece:
    work: list[Callable[[], Any]]
    """Empty once it is begun or dropped, because the thread's own queue keeps what was put into it until its turn."""
    size: int
    begun: Future[Any]
    result: asyncio.Future[Any]
    waiting: int = 0


class SharedWork:
    """Has one thread, because each busy thread delays the event loop. For the tasks of one loop at a time."""

    def __init__(self, name: str, most: int, what: str) -> None:
        """`name` is the thread's, `most` bounds all that waits at once, and `what` names the work in a refusal."""
        self._thread = ThreadPoolExecutor(1, name)
        self._most = most
        self._what = what
        self._size = 0
        self._pieces: dict[Hashable, _Piece] = {}

    async def run(self, key: Hashable, work: Callable[[], T], size: int = 1) -> T:
        """Returns or raises what `work` does; runs it once for all who wait for this key at the same time.

        When the last of them leaves, work that has not begun is dropped; new callers can still wait for work that has.
        Raises Overloaded if too much waits already.
        """
        piece = self._pieces.get(key)
        if piece is None:
            if self._size + size > self._most:
                raise Overloaded(f"too many {self._what} wait already: send this one again later")
            piece = self._pieces[key] = self._submit(work, size)
            self._size += size
            piece.result.add_done_callback(lambda _: self._forget(key, piece))
        piece.waiting += 1
        try:
            return await asyncio.shield(piece.result)
        finally:
            piece.waiting -= 1
            if not piece.waiting and piece.begun.cancel():
                piece.work.clear()
                self._forget(key, piece)

    def _submit(self, work: Callable[[], Any], size: int) -> _Piece:
        waiting = [work]

        def begin() -> object:
            return waiting.pop()()

        begun = self._thread.submit(begin)
        return _Piece(waiting, size, begun, asyncio.wrap_future(begun))

    def _forget(self, key: Hashable, piece: _Piece) -> None:
        """Forgets a piece that is done or dropped; may be called more than once."""
        if self._pieces.get(key) is piece:
            del self._pieces[key]
            self._size -= piece.size
        if piece.result.done() and not piece.result.cancelled():
            piece.result.exception()  # marks an error as seen: all who asked may have left

    async def close(self) -> None:
        """Returns when all work that has begun or is waited for is done."""
        await asyncio.to_thread(self._thread.shutdown)
