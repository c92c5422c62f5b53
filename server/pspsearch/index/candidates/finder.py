"""Finds candidates for an approximate base, with lists, a graph, or a GPU."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

import faiss

from pspsearch.domain import Descriptors
from pspsearch.index.arrays import Matrix, RowNumbers
from pspsearch.index.candidates.plan import Plan
from pspsearch.index.selection import Selection

Advance = Callable[[float], None]
"""Hears the share that is done, rising to 1, and ends the work by raising."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard a base searches for the ten nearest of all its rows."""

    breadth: int
    """How many lists are probed, or how many rows of a graph are kept in sight."""
    k_factor: int
    """How many candidates per wanted row are scored exactly."""


class FinderFailed(Exception):
    """The finder's device failed, most likely for lack of memory. The rows are stored elsewhere and unchanged."""


class Finder(Protocol):
    """Finds rows that are likely to be near. Never changes. One thread at a time may call `find`.

    Every method may raise FinderFailed.
    """

    @property
    def plan(self) -> Plan:
        """What was built."""
        ...

    @property
    def rows(self) -> int:
        """The number of rows that it covers."""
        ...

    @property
    def size_bytes(self) -> int:
        """The size in memory, without the matrix."""
        ...

    @property
    def breadths(self) -> list[int]:
        """The breadths to choose from, ascending; never empty."""
        ...

    @property
    def k_factors(self) -> tuple[int, ...]:
        """The factors to choose from, ascending; only 1 if the finder's own order is that of the exact scores."""
        ...

    def visited_bytes(self, breadth: int) -> float:
        """Returns about how many bytes one search of that breadth reads."""
        ...

    def words(self, effort: Effort) -> str:
        """Describes the effort for users."""
        ...

    def find(self, queries: Descriptors, count: int, breadth: int, selection: Selection) -> RowNumbers:
        """Returns for each query up to `count` of the selected rows, likely the nearest first, padded with -1."""
        ...

    def extended(self, matrix: Matrix, advance: Advance) -> Self:
        """Returns another finder for all rows of `matrix`, which begins with this one's rows.

        This finder can be used meanwhile.
        """
        ...

    def stored(self) -> faiss.Index | None:
        """Returns what must be stored besides the plan and the matrix; None if nothing else."""
        ...


def part(advance: Advance, start: float, end: float) -> Advance:
    """Returns an `advance` for the piece of the work from one share to another."""
    return lambda share: advance(start + share * (end - start))


def ladder(lowest: int, highest: int) -> list[int]:
    """Returns steps that about double every two, by a half and a third in turn, with both ends."""
    doublings = range(highest.bit_length())
    steps = {step << doubling >> 1 for doubling in doublings for step in (2 * lowest, 3 * lowest)}
    return sorted({step for step in steps if lowest <= step < highest} | {highest})
