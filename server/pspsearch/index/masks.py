"""Filters that take their time, beside the thread that searches."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from pspsearch.filters import Filter
from pspsearch.index.base import Mask
from pspsearch.index.view import View

T = TypeVar("T")


@dataclass(frozen=True, eq=False, slots=True)
class Masked:
    """A moment of the index, and what a filter says of it; searches that share one can be made together."""

    view: View
    mask: Mask | None


class Masks:
    """One thread, so that slow filters wait for one another and nobody else for them; for tasks of one event loop."""

    def __init__(self, view: Callable[[], View]) -> None:
        self._view = view
        self._thread = ThreadPoolExecutor(1, "index-filter")
        self._begun: dict[tuple[View, str], asyncio.Future[Masked]] = {}

    async def prepare(self, keep: Filter | None) -> Masked | None:
        """What a slow filter says of the index as it is now; None where it is quick, and found out with the search.

        The same filter over the same moment is evaluated once. InvalidRequest where it would take too long.
        """
        view = self._view()
        if keep is None or view.is_quick(keep):
            return None
        key = (view, keep.text)
        begun = self._begun.get(key)
        if begun is None:
            begun = self._begun[key] = asyncio.ensure_future(self._run(lambda: Masked(view, view.mask(keep))))
            begun.add_done_callback(lambda done: self._forget(key, done))
        return await asyncio.shield(begun)

    async def ask(self, keep: Filter | None, ask: Callable[[View], T]) -> T:
        """Something else that evaluates the filter over the index as it is now, not in the event loop."""
        view = self._view()
        if keep is None or view.is_quick(keep):
            return await asyncio.to_thread(ask, view)
        return await self._run(lambda: ask(view))

    async def close(self) -> None:
        """Returns when what was begun is done."""
        await asyncio.to_thread(self._thread.shutdown)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _forget(self, key: tuple[View, str], done: "asyncio.Future[Masked]") -> None:
        del self._begun[key]
        if not done.cancelled():
            done.exception()  # all who asked may have left
