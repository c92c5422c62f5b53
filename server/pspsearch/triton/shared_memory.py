"""A region of shared memory, divided into image-sized cells, that carries pixels to a Triton on the same host."""

import mmap
import os
from types import TracebackType
from typing import Self

import numpy as np

from pspsearch.domain import Pixels
from pspsearch.triton.owned_name import SHARED_MEMORY


class PixelRing:
    """Lends runs of neighbouring cells, each of which holds one image. Only one thread may use it."""

    def __init__(self, key: str, cells: int, height_px: int, width_px: int) -> None:
        """Creates the region `/dev/shm/<key>`. Raises OSError if there is no room for it."""
        self.key = key
        self.cell_bytes = height_px * width_px * 3
        self.size_bytes = cells * self.cell_bytes
        self._taken = bytearray(cells)
        self._next = 0
        self._memory = _create(key, self.size_bytes)
        self._cells = np.frombuffer(self._memory, np.uint8).reshape(cells, height_px, width_px, 3)

    def take(self, count: int) -> int | None:
        """Takes `count` free neighbouring cells and returns the first; None if there are none."""
        wanted = bytes(count)
        first = self._taken.find(wanted, self._next)
        if first < 0:
            first = self._taken.find(wanted)
        if first < 0:
            return None
        self._taken[first : first + count] = b"\x01" * count
        self._next = first + count
        return first

    def give_back(self, first: int, count: int) -> None:
        """Frees cells that `take` lent."""
        self._taken[first : first + count] = bytes(count)

    def write(self, first: int, pixels: Pixels) -> None:
        """Copies the images into the cells, starting at `first`."""
        self._cells[first : first + len(pixels)] = pixels

    def close(self) -> None:
        """Removes the region. It may be called twice."""
        (SHARED_MEMORY / self.key).unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _create(key: str, size_bytes: int) -> mmap.mmap:
    """Reserves all the memory now, so that a full `/dev/shm` is an error here and not a SIGBUS at the first write."""
    file = os.open(SHARED_MEMORY / key, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    try:
        os.posix_fallocate(file, 0, size_bytes)
        return mmap.mmap(file, size_bytes)
    except OSError:
        (SHARED_MEMORY / key).unlink()
        raise
    finally:
        os.close(file)
