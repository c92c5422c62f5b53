"""Work that takes its time, one after the other in a thread, once for all who wait for the same."""

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
    """Empty when it is begun, or dropped: the thread's own queue keeps what was put into it until its turn."""
    size: int
    begun: Future[Any]
    result: asyncio.Future[Any]
    waiting: int = 0


class SharedWork:
    """One thread, because each that has work delays the event loop; for the tasks of one loop at a time."""

    def __init__(self, name: str, most: int, what: str) -> None:
        """The thread's name, the bound of all that is waited for at once, and what it is called in the refusal."""
        self._thread = ThreadPoolExecutor(1, name)
        self._most = most
        self._what = what
        self._size = 0
        self._pieces: dict[Hashable, _Piece] = {}

    async def run(self, key: Hashable, work: Callable[[], T], size: int = 1) -> T:
        """What `work` returns or raises; of one key it is done once for all who wait at the same time.

        When the last of them leaves, work that is not begun is never done; for what is begun one may wait again.
        Overloaded where too much waits already.
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
        """Once it is done or dropped, however many say so."""
        if self._pieces.get(key) is piece:
            del self._pieces[key]
            self._size -= piece.size
        if piece.result.done() and not piece.result.cancelled():
            piece.result.exception()  # all who asked may have left

    async def close(self) -> None:
        """Returns when what was begun, and is waited for, is done."""
        await asyncio.to_thread(self._thread.shutdown)
