"""Values on a regular grid, interpolated between its nodes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pspsearch_build.sample.points import Scalars


@dataclass(frozen=True, slots=True)
class Sheet:
    """One value per node; beyond the grid, the value of the nearest place on its border."""

    values: NDArray[np.float32]
    """(rows, columns)."""
    cell: float
    """The distance between neighbouring nodes, both ways."""
    left: float
    """The position of the first column."""
    bottom: float
    """The position of the first row."""

    def read(self, across: Scalars, up: Scalars) -> Scalars:
        """The values at the places, interpolated bilinearly."""
        rows, columns = self.values.shape
        column = np.clip((across - self.left) * (1 / self.cell), 0, columns - 1.001)
        row = np.clip((up - self.bottom) * (1 / self.cell), 0, rows - 1.001)
        first_column, first_row = column.astype(np.int32), row.astype(np.int32)
        right, top = column - first_column, row - first_row
        corner, flat = first_row * columns + first_column, self.values.ravel()
        below = flat.take(corner) * (1 - right) + flat.take(corner + 1) * right
        above = flat.take(corner + columns) * (1 - right) + flat.take(corner + columns + 1) * right
        return below * (1 - top) + above * top
