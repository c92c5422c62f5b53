"""Evaluates slow filters outside the thread that searches."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from pspsearch.filters import Filter
from pspsearch.index.arrays import Mask
from pspsearch.index.view import View
from pspsearch.shared_work import SharedWork

T = TypeVar("T")

MAX_WAITING = 32
"""How many slow filters of one index may wait; each takes a second at most."""


@dataclass(frozen=True, eq=False, slots=True)
class Masked:
    """A moment of the index with a filter's mask. Searches that share one can be made together."""

    view: View
    mask: Mask | None


class Masks:
    """Evaluates slow filters in one thread, so that only slow filters wait for one another.

    Only tasks of one event loop may use it.
    """

    def __init__(self, view: Callable[[], View]) -> None:
        self._view = view
        self._work = SharedWork("index-filter", MAX_WAITING, "slow filters")

    async def prepare(self, where: Filter | None) -> Masked | None:
        """Returns the mask of a slow filter over the index as it is now, or None for a quick one.

        The search evaluates a quick filter itself. The same filter over the same moment is evaluated once. Raises
        InvalidRequest if the filter would take too long, and Overloaded if too many wait.
        """
        view = self._view()
        if where is None or view.is_quick(where):
            return None
        return await self._work.run((view, where.text), lambda: Masked(view, view.mask(where)))

    async def ask(self, where: Filter, ask: Callable[[View], T]) -> T:
        """Runs other work that evaluates the filter over the index as it is now, outside the event loop."""
        view = self._view()
        if view.is_quick(where):
            return await asyncio.to_thread(ask, view)
        return await self._work.run(object(), lambda: ask(view))

    async def close(self) -> None:
        """Waits until the work that was begun is done."""
        await self._work.close()
