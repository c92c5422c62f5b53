"""The base that scores every row."""

from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pspsearch.domain import Descriptors
from pspsearch.index.arrays import Mask, Matrix, RowNumbers
from pspsearch.index.bases.base_file import BaseHeader, write_base_file
from pspsearch.index.candidates.finder import Advance
from pspsearch.index.candidates.plan import ExactPlan
from pspsearch.index.scoring import ExactScan
from pspsearch.index.selection import Selection


class ExactBase:
    """A Base that is exact under any mask, for any count, and with ties. It takes no memory besides the matrix."""

    measured_recall = 1.0
    size_bytes = 0

    def __init__(self, plan: ExactPlan, matrix: Matrix) -> None:
        self._plan = plan
        self._scan = ExactScan(matrix)
        self.rows = len(matrix)

    @property
    def plan(self) -> str:
        """See Base."""
        return str(self._plan)

    def fits(self, rows: int) -> bool:
        """See Base."""
        return self._plan.fits(rows)

    def search(
        self, queries: Descriptors, count: int, keep: Mask | None = None
    ) -> tuple[NDArray[np.float32], RowNumbers]:
        """See Base."""
        return self._scan.search(queries, count, Selection.of(keep, self.rows))

    def extended(self, matrix: Matrix, advance: Advance) -> Self:
        """See Base."""
        base = type(self)(self._plan, np.asarray(matrix))
        advance(1.0)
        return base

    def write(self, path: Path) -> None:
        """See Base."""
        write_base_file(path, BaseHeader(self._plan, self.rows), None)
