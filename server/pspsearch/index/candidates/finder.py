"""What finds candidates for an approximate base: lists, a graph, or a GPU."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

import faiss

from pspsearch.domain import Descriptors
from pspsearch.index.arrays import Matrix, RowNumbers
from pspsearch.index.candidates.plan import Plan
from pspsearch.index.selection import Selection

Advance = Callable[[float], None]
"""Hears the share that is done, ascending to 1; what it raises ends the work."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard a base looks for the ten nearest of all its rows."""

    breadth: int
    """How many lists are probed, or how many rows of a graph are kept in sight."""
    k_factor: int
    """How many candidates per wanted row are scored exactly."""


class FinderFailed(Exception):
    """Its device cannot do it, most likely for lack of memory; the rows, which are elsewhere, are as they were."""


class Finder(Protocol):
    """Finds rows that are likely to be near. Never changes; `find` is for one thread at a time.

    Whatever is asked of it may raise FinderFailed.
    """

    @property
    def plan(self) -> Plan:
        """What was built."""
        ...

    @property
    def rows(self) -> int:
        """How many it covers."""
        ...

    @property
    def size_bytes(self) -> int:
        """In memory, without the matrix."""
        ...

    @property
    def breadths(self) -> list[int]:
        """The choice, ascending; never empty."""
        ...

    @property
    def k_factors(self) -> tuple[int, ...]:
        """The choice, ascending; only 1 where the finder's own order is already that of the exact scores."""
        ...

    def visited_bytes(self, breadth: int) -> float:
        """About what one search of that breadth reads."""
        ...

    def words(self, effort: Effort) -> str:
        """The effort as users see it."""
        ...

    def find(self, queries: Descriptors, count: int, breadth: int, selection: Selection) -> RowNumbers:
        """For each query up to `count` of the selected rows, likely the nearest first; -1 fills up."""
        ...

    def extended(self, matrix: Matrix, advance: Advance) -> Self:
        """Another one that covers all rows of `matrix`, whose first ones are this one's; both can be used meanwhile."""
        ...

    def stored(self) -> faiss.Index | None:
        """What has to be on disk beside the plan and the matrix; None where that is all."""
        ...


def part(advance: Advance, start: float, end: float) -> Advance:
    """`advance` for a piece of the work that goes from one share to another."""
    return lambda share: advance(start + share * (end - start))


def ladder(lowest: int, highest: int) -> list[int]:
    """Steps of a half and a third in turn, about doubling every two, with both ends."""
    doublings = range(highest.bit_length())
    steps = {step << doubling >> 1 for doubling in doublings for step in (2 * lowest, 3 * lowest)}
    return sorted({step for step in steps if lowest <= step < highest} | {highest})
