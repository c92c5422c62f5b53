"""Finds candidates with a graph over the stored descriptors."""

from typing import Self

import faiss
import numpy as np

from pspsearch.domain import Descriptors
from pspsearch.index.arrays import Matrix, RowNumbers
from pspsearch.index.candidates.finder import Advance, Effort, ladder
from pspsearch.index.candidates.plan import HnswPlan
from pspsearch.index.scoring import flat_over
from pspsearch.index.selection import Selection

SLICE_ROWS = 1 << 12
"""How many rows are added between two reports of progress."""

NARROWEST = 32
"""The smallest breadth.

A smaller one saves nothing. Besides, a graph does slightly better on its own rows, which it is tuned on, than on
others.
"""

WIDEST = 4096
"""The largest breadth.

FAISS keeps the rows in sight in a list that it reads at every step, so beyond this a graph is slower than a scan.
"""

EF_CONSTRUCTION = 80


class HnswFinder:
    """A Finder over IndexHNSWSQ. It holds links; the descriptors are those of the matrix."""

    k_factors = (1,)

    def __init__(self, plan: HnswPlan, index: faiss.IndexHNSWSQ, matrix: Matrix) -> None:
        """Frees the descriptors that the index needed while rows were added to it."""
        self.plan = plan
        self._index = index
        self._matrix = matrix  # the storage refers to its memory
        _storage(index).codes = flat_over(matrix).codes

    @classmethod
    def built(cls, plan: HnswPlan, matrix: Matrix, advance: Advance) -> Self:
        """Builds the finder over the matrix. In one thread the same input makes the same graph."""
        index = faiss.IndexHNSWSQ(plan.dimension, faiss.ScalarQuantizer.QT_fp16, plan.links, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = EF_CONSTRUCTION
        _add(index, matrix, advance)
        return cls(plan, index, matrix)

    @classmethod
    def read(cls, plan: HnswPlan, index: faiss.IndexHNSWSQ, matrix: Matrix) -> Self:
        """Makes the finder from links that were on disk without their descriptors."""
        storage = flat_over(matrix)
        index.storage = storage
        index.own_fields = True
        storage.this.disown()
        return cls(plan, index, matrix)

    @property
    def rows(self) -> int:
        """See Finder."""
        return self._index.ntotal

    @property
    def size_bytes(self) -> int:
        """See Finder."""
        return self.rows * self.plan.row_bytes

    @property
    def breadths(self) -> list[int]:
        """See Finder."""
        return ladder(NARROWEST, WIDEST)

    def visited_bytes(self, breadth: int) -> float:
        """See Finder."""
        return breadth * self.plan.links * 2 * self.plan.dimension

    def words(self, effort: Effort) -> str:
        """See Finder."""
        return f"{effort.breadth} rows in sight"

    def find(self, queries: Descriptors, count: int, breadth: int, selection: Selection) -> RowNumbers:
        """See Finder."""
        wanted = min(count, self.rows)
        parameters = faiss.SearchParametersHNSW(efSearch=max(breadth, wanted), sel=selection.selector)
        return self._index.search(queries, wanted, params=parameters)[1]

    def extended(self, matrix: Matrix, advance: Advance) -> Self:
        """See Finder."""
        index = faiss.clone_index(self._index)
        assert isinstance(index, faiss.IndexHNSWSQ)
        _copy_codes(index, self._matrix)
        _add(index, matrix, advance)
        return type(self)(self.plan, index, matrix)

    def stored(self) -> faiss.Index:
        """See Finder."""
        return self._index


def _storage(index: faiss.IndexHNSWSQ) -> faiss.IndexScalarQuantizer:
    storage = faiss.downcast_index(index.storage)
    assert isinstance(storage, faiss.IndexScalarQuantizer)
    return storage


def _copy_codes(index: faiss.IndexHNSWSQ, matrix: Matrix) -> None:
    """Gives the index its own copy of the descriptors, because it could not add to foreign memory."""
    own = faiss.IndexScalarQuantizer(matrix.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    own.add_sa_codes(matrix.view(np.uint8))
    _storage(index).codes = own.codes


def _add(index: faiss.IndexHNSWSQ, matrix: Matrix, advance: Advance) -> None:
    """Adds the rows of the matrix that the graph lacks, under their own numbers."""
    for start in range(index.ntotal, len(matrix), SLICE_ROWS):
        index.add(matrix[start : start + SLICE_ROWS].astype(np.float32))
        advance(index.ntotal / len(matrix))
