"""Filters that take their time, beside the thread that searches."""

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
"""Slow filters of one index: each takes a second at most."""


@dataclass(frozen=True, eq=False, slots=True)
class Masked:
    """A moment of the index, and what a filter says of it; searches that share one can be made together."""

    view: View
    mask: Mask | None


class Masks:
    """One thread, so that slow filters wait for one another and nobody else for them; for tasks of one event loop."""

    def __init__(self, view: Callable[[], View]) -> None:
        self._view = view
        self._work = SharedWork("index-filter", MAX_WAITING, "slow filters")

    async def prepare(self, where: Filter | None) -> Masked | None:
        """What a slow filter says of the index as it is now; None where it is quick, and found out with the search.

        The same filter over the same moment is evaluated once. InvalidRequest where it would take too long, Overloaded
        where too many wait.
        """
        view = self._view()
        if where is None or view.is_quick(where):
            return None
        return await self._work.run((view, where.text), lambda: Masked(view, view.mask(where)))

    async def ask(self, where: Filter, ask: Callable[[View], T]) -> T:
        """Something else that evaluates the filter over the index as it is now, not in the event loop."""
        view = self._view()
        if view.is_quick(where):
            return await asyncio.to_thread(ask, view)
        return await self._work.run(object(), lambda: ask(view))

    async def close(self) -> None:
        """Returns when what was begun is done."""
        await self._work.close()
