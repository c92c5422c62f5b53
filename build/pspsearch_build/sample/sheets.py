"""Values known on a regular grid and read anywhere between its nodes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pspsearch_build.sample.points import Scalars


@dataclass(frozen=True, slots=True)
class Sheet:
    """One value for each node; beyond the grid, that of the nearest place on its border."""

    values: NDArray[np.float32]
    """(rows, columns)."""
    cell: float
    """From node to node, both ways."""
    left: float
    """Where the first column is."""
    bottom: float
    """Where the first row is."""

    def read(self, across: Scalars, up: Scalars) -> Scalars:
        """The values at places, bilinear between the nodes."""
        rows, columns = self.values.shape
        column = np.clip((across - self.left) * (1 / self.cell), 0, columns - 1.001)
        row = np.clip((up - self.bottom) * (1 / self.cell), 0, rows - 1.001)
        first_column, first_row = column.astype(np.int32), row.astype(np.int32)
        right, top = column - first_column, row - first_row
        corner, flat = first_row * columns + first_column, self.values.ravel()
        below = flat.take(corner) * (1 - right) + flat.take(corner + 1) * right
        above = flat.take(corner + columns) * (1 - right) + flat.take(corner + columns + 1) * right
        return below * (1 - top) + above * top
