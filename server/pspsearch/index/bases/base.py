"""What an immutable base of an index offers, whatever is inside it."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from pspsearch.domain import Descriptors
from pspsearch.index.arrays import Mask, Matrix, RowNumbers


class Base(Protocol):
    """Finds the nearest of the first `rows` rows of the matrix that it was built over. Never changes.

    One thread at a time may call `search`, which goes on while another base is made from this one.
    """

    @property
    def rows(self) -> int:
        """The number of rows that it covers."""
        ...

    @property
    def plan(self) -> str:
        """What was built, in words."""
        ...

    @property
    def measured_recall(self) -> float:
        """The share of the true ten nearest that it finds, measured on its own rows; 1 if it is exact."""
        ...

    @property
    def size_bytes(self) -> int:
        """The size in memory, without the matrix."""
        ...

    def search(
        self, queries: Descriptors, count: int, keep: Mask | None = None
    ) -> tuple[NDArray[np.float32], RowNumbers]:
        """Returns the `count` best of the rows that `keep` marks: scores and row numbers, queries x count, best first.

        Scores are those of the matrix's descriptors. If `keep` leaves fewer than `count` rows, answers are padded with
        row -1 and score -inf. An exact base pads only then.
        """
        ...

    def fits(self, rows: int) -> bool:
        """Whether it should be extended to this many rows, rather than planned anew."""
        ...

    def extended(self, matrix: Matrix, advance: Callable[[float], None]) -> Self:
        """Returns another base that covers all rows of `matrix`, which begins with this base's own rows.

        `advance` hears the share that is done. This base stays as it is.
        """
        ...

    def write(self, path: Path) -> None:
        """Writes everything but the matrix into one file, without syncing it."""
        ...
