"""Work that takes its time, one after the other in a thread, once for all who wait for the same."""

import asyncio
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from pspsearch.errors import Overloaded

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class _Piece:
    result: asyncio.Future[Any]
    size: int
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

        When the last of them leaves, work that is not begun is never done. Overloaded where too much waits already.
        """
        piece = self._pieces.get(key)
        if piece is None:
            if self._size + size > self._most:
                raise Overloaded(f"too many {self._what} wait already: send this one again later")
            result = asyncio.get_running_loop().run_in_executor(self._thread, work)
            piece = self._pieces[key] = _Piece(result, size)
            self._size += size
        piece.waiting += 1
        try:
            return await asyncio.shield(piece.result)
        finally:
            piece.waiting -= 1
            if not piece.waiting:
                piece.result.cancel()  # in the thread's queue as well; what is begun there goes on
                del self._pieces[key]
                self._size -= piece.size

    async def close(self) -> None:
        """Returns when what was begun, and is waited for, is done."""
        await asyncio.to_thread(self._thread.shutdown)
