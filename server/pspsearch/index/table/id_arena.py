"""The ids of rows, without a Python object for each."""

from collections.abc import Iterable
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pspsearch.index.arrays import Mask, RowNumbers
from pspsearch.index.table.growing_array import GrowingArray


class IdArena:
    """One UTF-8 string, and where each row's id ends in it. One thread appends while others read."""

    def __init__(self, text: NDArray[np.uint8], bounds: NDArray[np.int64]) -> None:
        """The id of row n lies between bounds n and n + 1; the first bound is 0."""
        self._text = GrowingArray(text)
        self._bounds = GrowingArray(bounds)

    @classmethod
    def empty(cls) -> Self:
        """Makes an arena of no rows."""
        return cls(np.zeros(0, np.uint8), np.zeros(1, np.int64))

    @property
    def size_bytes(self) -> int:
        """The size in memory."""
        return self._text.size_bytes + self._bounds.size_bytes

    def append(self, ids: Iterable[str]) -> None:
        """Appends the ids of the next rows."""
        encoded = [id_.encode() for id_ in ids]
        lengths = np.array([len(one) for one in encoded], np.int64)
        start = len(self._text)
        self._text.append(np.frombuffer(b"".join(encoded), np.uint8))
        self._bounds.append(start + np.cumsum(lengths))

    def take(self, rows: RowNumbers) -> list[str]:
        """Returns the ids of these rows, in that order."""
        bounds = self._bounds.first(len(self._bounds))
        starts, ends = bounds[rows].tolist(), bounds[rows + 1].tolist()
        text = self._text.first(len(self._text))
        return [text[start:end].tobytes().decode() for start, end in zip(starts, ends, strict=True)]

    def first(self, rows: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Returns the text and bounds of the first rows alone. The caller must not write to them."""
        bounds = self._bounds.first(rows + 1)
        return self._text.first(int(bounds[-1])), bounds

    def keep_rows(self, keep: Mask) -> Self:
        """Returns an arena of the first rows that `keep` marks."""
        text, bounds = self.first(len(keep))
        lengths = np.diff(bounds)
        kept_bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths[keep])])
        return type(self)(text[np.repeat(keep, lengths)], kept_bounds)
