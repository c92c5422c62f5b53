"""What an immutable base of an index offers, whatever is inside it."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from pspsearch.domain import Descriptors
from pspsearch.index.arrays import Mask, Matrix, RowNumbers


class Base(Protocol):
    """Finds the nearest among rows 0 to `rows` of a matrix that it was built over. Never changes.

    `search` may be called from one thread at a time, and goes on while another base is being made from this one.
    """

    @property
    def rows(self) -> int:
        """How many it covers."""
        ...

    @property
    def plan(self) -> str:
        """What was built, in words."""
        ...

    @property
    def measured_recall(self) -> float:
        """Of the true ten nearest, the share that it finds, measured on its own rows; 1 where it is exact."""
        ...

    @property
    def size_bytes(self) -> int:
        """In memory, without the matrix."""
        ...

    def search(
        self, queries: Descriptors, count: int, keep: Mask | None = None
    ) -> tuple[NDArray[np.float32], RowNumbers]:
        """The `count` best of the rows that `keep` holds for: scores and row numbers, queries x count, best first.

        Scores are those of the matrix's descriptors. -1 with a score of -inf fills up where `keep` leaves fewer than
        `count`, and only there where the base is exact.
        """
        ...

    def fits(self, rows: int) -> bool:
        """Whether it should be extended to so many rows, rather than planned anew."""
        ...

    def extended(self, matrix: Matrix, advance: Callable[[float], None]) -> Self:
        """Another base that covers all rows of `matrix`, whose first ones are this base's own.

        `advance` hears the share that is done. This base goes on as it is.
        """
        ...

    def write(self, path: Path) -> None:
        """Everything but the matrix, into one file; not synced."""
        ...
