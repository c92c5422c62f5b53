"""The rows of an index, by row number."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pspsearch.domain import Descriptors, Row, Sequences
from pspsearch.index.arrays import Mask, RowNumbers
from pspsearch.index.table.columns import Columns
from pspsearch.index.table.growing_array import GrowingArray
from pspsearch.index.table.id_arena import IdArena
from pspsearch.index.table.matrix_file import MatrixFile

COPIED_BYTES = 1 << 24
"""How much of a matrix is copied at a time."""

ROWS = "rows"
COLUMNS = "columns"


class Table:
    """All data of each row. Rows are only ever added, by ascending sequence.

    One thread adds; any others read what was there before.
    """

    FILES = (ROWS, COLUMNS)
    """The files that `write` writes."""

    def __init__(
        self,
        matrix: MatrixFile,
        sequences: Sequences,
        keys: NDArray[np.int64],
        ids: IdArena,
        columns: Columns,
    ) -> None:
        self.matrix = matrix
        self.columns = columns
        self._sequences = GrowingArray(sequences)
        self._keys = GrowingArray(keys)
        self._ids = ids

    @classmethod
    def empty(cls, path: Path, dimension: int) -> Self:
        """Makes a table without rows, with its matrix in a new file."""
        nothing = np.zeros(0, np.int64)
        return cls(MatrixFile(path, dimension, 0), nothing, nothing, IdArena.empty(), Columns())

    @property
    def rows(self) -> int:
        """The number of rows now."""
        return len(self._sequences)

    def append(self, rows: Sequence[Row]) -> None:
        """Appends the next rows, which everybody sees at once.

        Raises OSError, with nothing changed, if the disk is full.
        """
        if rows:
            self.matrix.write(self.rows, np.stack([row.descriptor for row in rows]))
            self.columns.append([row.attributes for row in rows])
            self._ids.append(row.id for row in rows)
            self._keys.append(np.array([row.key for row in rows], np.int64))
            self._sequences.append(np.array([row.sequence for row in rows], np.int64))

    def sequences(self, rows: int) -> Sequences:
        """Returns the sequences of the first rows, ascending."""
        return self._sequences.first(rows)

    def keys(self, rows: int) -> NDArray[np.int64]:
        """Returns the keys of the first rows."""
        return self._keys.first(rows)

    def ids(self, rows: RowNumbers) -> list[str]:
        """Returns the ids of these rows, in that order."""
        return self._ids.take(rows)

    def find(self, sequences: Sequences, rows: int) -> RowNumbers:
        """Returns where these sequences are among the first rows; -1 for one that is not there."""
        known = self.sequences(rows)
        places = np.searchsorted(known, sequences)
        there = places < rows
        there[there] = known[places[there]] == sequences[there]
        return np.where(there, places, -1)

    def descriptors(self, sequences: Sequences) -> Descriptors | None:
        """Returns the descriptors of the rows of these sequences, in that order; None if one of them is not here."""
        rows = self.find(sequences, self.rows)
        return None if (rows < 0).any() else self.matrix.first(self.rows)[rows].astype(np.float32)

    def size_bytes(self, rows: int) -> int:
        """Returns the size in memory of this many rows."""
        of_arrays = self._sequences.size_bytes + self._keys.size_bytes + self._ids.size_bytes
        return self.matrix.first(rows).nbytes + of_arrays + self.columns.size_bytes

    def keep_rows(self, keep: Mask, path: Path, advance: Callable[[float], None]) -> Self:
        """Returns another table of the first rows that `keep` marks, with its own matrix."""
        kept = np.flatnonzero(keep)
        matrix = MatrixFile(path, self.matrix.dimension, len(kept))
        source = self.matrix.first(len(keep))
        step = max(1, COPIED_BYTES // (2 * matrix.dimension))
        for start in range(0, len(kept), step):
            matrix.write(start, source[kept[start : start + step]])
            advance(start / len(kept))
        return type(self)(
            matrix,
            self.sequences(len(keep))[kept],
            self.keys(len(keep))[kept],
            self._ids.keep_rows(keep),
            self.columns.keep_rows(keep),
        )

    def write(self, folder: Path, rows: int) -> None:
        """Writes all of the first rows except the matrix, into two files."""
        text, bounds = self._ids.first(rows)
        with (folder / ROWS).open("wb") as file:
            for array in (self.sequences(rows), self.keys(rows), text, bounds):
                np.save(file, array)
        self.columns.write(folder / COLUMNS, rows)

    @classmethod
    def read(cls, folder: Path, matrix: MatrixFile) -> Self:
        """Reads what `write` wrote, for the matrix that belongs to it."""
        with (folder / ROWS).open("rb") as file:
            sequences, keys, text, bounds = (np.load(file) for _ in range(4))
        return cls(matrix, sequences, keys, IdArena(text, bounds), Columns.read(folder / COLUMNS))
