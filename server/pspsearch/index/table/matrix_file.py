"""The descriptors of a table, in a file that is mapped into memory."""

import hashlib
import mmap
import os
import weakref
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pspsearch.index.arrays import Matrix

LEAST_ROWS = 1024

CHUNK_BYTES = 1 << 24
"""How much is hashed at a time."""


class MatrixFile:
    """Rows of fp16 that one thread writes while others read those that were there before.

    Rows are written through the file and read through the map, so a full disk is an error and not the signal that a
    write to mapped memory would get. The file is sparse and longer than its rows. What lies beyond them is undefined.
    """

    def __init__(self, path: Path, dimension: int, rows: int) -> None:
        """Opens or creates the file, with room for this many rows. Raises OSError if that fails."""
        self.path = path
        self.dimension = dimension
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        weakref.finalize(self, os.close, self._file)
        self._rows = self._map(max(LEAST_ROWS, rows))
        self._hash = hashlib.blake2b()
        self._hashed = 0

    def _map(self, capacity: int) -> Matrix:
        row_bytes = 2 * self.dimension
        size_bytes = max(capacity * row_bytes, os.fstat(self._file).st_size // row_bytes * row_bytes)
        os.ftruncate(self._file, size_bytes)
        mapped = mmap.mmap(self._file, size_bytes, access=mmap.ACCESS_READ)
        return np.frombuffer(mapped, np.float16).reshape(-1, self.dimension)

    def write(self, start: int, rows: NDArray[np.float16]) -> None:
        """Writes rows from row number `start` on, into the file but not yet durably."""
        if start + len(rows) > len(self._rows):
            self._rows = self._map(max(start + len(rows), 2 * len(self._rows)))
        data = _bytes(np.ascontiguousarray(rows))
        offset = start * 2 * self.dimension
        while data:
            written = os.pwrite(self._file, data, offset)
            data, offset = data[written:], offset + written

    def first(self, rows: int) -> Matrix:
        """Returns the first rows, read-only. The memory stays valid for as long as the array lives."""
        return self._rows[:rows]

    def digest(self, rows: int) -> str:
        """Returns the digest of the first rows, in hexadecimal. It reads only rows that it has not yet hashed.

        Only one thread at a time may call it, and never for fewer rows than before.
        """
        step = max(1, CHUNK_BYTES // (2 * self.dimension))
        for start in range(self._hashed, rows, step):
            self._hash.update(_bytes(self._rows[start : min(start + step, rows)]))
        self._hashed = rows
        return self._hash.hexdigest()

    def sync(self) -> None:
        """Makes the written rows durable."""
        os.fsync(self._file)


def _bytes(rows: Matrix) -> memoryview:
    return rows.reshape(-1).view(np.uint8).data
