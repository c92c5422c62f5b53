"""Which rows one search may find, in the forms that the bases need."""

from dataclasses import dataclass
from functools import cached_property

import faiss
import numpy as np

from pspsearch.index.arrays import Mask, RowNumbers


@dataclass(frozen=True)
class Selection:
    """Some of a base's rows; belongs to one search."""

    rows: int
    """Of the base."""
    keep: Mask | None
    """None keeps all."""
    kept: int
    """How many."""

    @classmethod
    def of(cls, keep: Mask | None, rows: int) -> "Selection":
        """The rows that `keep` holds for, all where it is None."""
        if keep is None:
            return cls(rows, None, rows)
        assert keep.shape == (rows,), f"a mask of {keep.shape} over {rows} rows"
        kept = int(np.count_nonzero(keep))
        return cls(rows, None if kept == rows else keep, kept)

    @property
    def share(self) -> float:
        """How much of the base is kept; only where there is a row."""
        return self.kept / self.rows

    @cached_property
    def selector(self) -> faiss.IDSelector | None:
        """For FAISS, which reads the lowest bit of a byte first."""
        if self.keep is None:
            return None
        return faiss.IDSelectorBitmap(np.packbits(self.keep, bitorder="little"))

    @cached_property
    def numbers(self) -> RowNumbers:
        """Ascending."""
        return np.arange(self.rows) if self.keep is None else np.flatnonzero(self.keep)
