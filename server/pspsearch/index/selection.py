"""Which rows one search may find, in the forms that the bases need."""

from dataclasses import dataclass
from functools import cached_property

import faiss
import numpy as np

from pspsearch.index.arrays import Mask, RowNumbers


@dataclass(frozen=True)
class Selection:
    """Some of a base's rows. It belongs to one search."""

    rows: int
    """The number of rows in the base."""
    keep: Mask | None
    """The mask; None keeps all rows."""
    kept: int
    """The number of kept rows."""

    @classmethod
    def of(cls, keep: Mask | None, rows: int) -> "Selection":
        """Selects the rows that `keep` marks, or all if it is None."""
        if keep is None:
            return cls(rows, None, rows)
        assert keep.shape == (rows,), f"a mask of {keep.shape} over {rows} rows"
        kept = int(np.count_nonzero(keep))
        return cls(rows, None if kept == rows else keep, kept)

    @property
    def share(self) -> float:
        """The share of the base that is kept; the base must have a row."""
        return self.kept / self.rows

    @cached_property
    def selector(self) -> faiss.IDSelector | None:
        """The selection for FAISS, which reads the lowest bit of a byte first; None keeps all."""
        if self.keep is None:
            return None
        return faiss.IDSelectorBitmap(np.packbits(self.keep, bitorder="little"))

    @cached_property
    def numbers(self) -> RowNumbers:
        """The numbers of the kept rows, ascending."""
        return np.arange(self.rows) if self.keep is None else np.flatnonzero(self.keep)
