"""Finds candidates in inverted lists of product codes, with FAISS's fast scan."""

from dataclasses import replace
from typing import Self

import faiss
import numpy as np

from pspsearch.domain import Descriptors
from pspsearch.index.arrays import Matrix, RowNumbers
from pspsearch.index.candidates.centres import SURE_OF_ROWS, Centres
from pspsearch.index.candidates.finder import Advance, Effort, ladder, part
from pspsearch.index.candidates.plan import IvfPlan
from pspsearch.index.candidates.training import cluster, draw_training_rows
from pspsearch.index.scoring import as_float32
from pspsearch.index.selection import Selection

SLICE_ROWS = 1 << 14
"""How many rows are added between two reports of progress."""


class IvfFinder:
    """A Finder over IndexIVFPQFastScan. It holds codes and row numbers, but no descriptors."""

    k_factors = (2, 4, 8, 16, 32)

    def __init__(self, plan: IvfPlan, index: faiss.IndexIVFPQFastScan, centres: Centres | None = None) -> None:
        """`centres` may be those of another finder of the same plan, so that they need not be prepared again."""
        self.plan = plan
        self._index = index
        self._centres = centres or Centres(index.quantizer.reconstruct_n(0, plan.lists), graph=plan.graph)

    @classmethod
    def built(cls, plan: IvfPlan, matrix: Matrix, advance: Advance) -> Self:
        """Builds the finder over the matrix, trained on a sample of it. The same input makes the same lists."""
        index = _trained(plan, matrix, part(advance, 0.0, 0.6))
        _add(index, matrix, part(advance, 0.6, 1.0))
        finder = cls(plan, index)
        sample = _widened(draw_training_rows(matrix, SURE_OF_ROWS), plan.padded_dimension)
        return finder if finder._centres.is_sure(sample) else cls(replace(plan, graph=False), index)

    @property
    def rows(self) -> int:
        """See Finder."""
        return self._index.ntotal

    @property
    def size_bytes(self) -> int:
        """See Finder."""
        return self.plan.size_bytes(self.rows)

    @property
    def breadths(self) -> list[int]:
        """See Finder."""
        return ladder(1, self.plan.lists)

    def visited_bytes(self, breadth: int) -> float:
        """See Finder."""
        return self.rows * breadth / self.plan.lists * self.plan.code_bytes

    def words(self, effort: Effort) -> str:
        """See Finder."""
        return f"{effort.breadth} lists probed, {effort.k_factor} candidates per row"

    def find(self, queries: Descriptors, count: int, breadth: int, selection: Selection) -> RowNumbers:
        """See Finder."""
        wide = np.ascontiguousarray(_widened(queries, self._index.d))
        centre_scores, lists = self._centres.nearest(wide, breadth)
        wanted = min(count, self.rows)
        scores, rows = np.empty((len(wide), wanted), np.float32), np.empty((len(wide), wanted), np.int64)
        parameters = faiss.SearchParametersIVF(nprobe=breadth, sel=selection.selector)
        given = (faiss.swig_ptr(lists), faiss.swig_ptr(centre_scores), faiss.swig_ptr(scores), faiss.swig_ptr(rows))
        # The C++ method, because the binding's own takes no parameters.
        self._index.search_preassigned_c(len(wide), faiss.swig_ptr(wide), wanted, *given, False, parameters)
        return rows

    def extended(self, matrix: Matrix, advance: Advance) -> Self:
        """See Finder."""
        index = faiss.clone_index(self._index)
        assert isinstance(index, faiss.IndexIVFPQFastScan)
        _add(index, matrix, advance)
        return type(self)(self.plan, index, self._centres)

    def stored(self) -> faiss.Index:
        """See Finder."""
        return self._index


def _trained(plan: IvfPlan, matrix: Matrix, advance: Advance) -> faiss.IndexIVFPQFastScan:
    sample = _widened(draw_training_rows(matrix, plan.training_rows), plan.padded_dimension)
    quantizer = cluster(sample, plan.lists, part(advance, 0.0, 0.9))
    index = faiss.IndexIVFPQFastScan(
        quantizer, plan.padded_dimension, plan.lists, plan.subquantisers, 4, faiss.METRIC_INNER_PRODUCT
    )
    index.by_residual = True  # finer codes at the same price: under an inner product a list only adds its own score
    index.train(sample)
    advance(1.0)
    return index


def _add(index: faiss.Index, matrix: Matrix, advance: Advance) -> None:
    """Adds the rows of the matrix that the index lacks, under their own numbers."""
    for start in range(index.ntotal, len(matrix), SLICE_ROWS):
        index.add(_widened(as_float32(matrix[start : start + SLICE_ROWS]), index.d))
        advance(index.ntotal / len(matrix))


def _widened(descriptors: Descriptors, dimension: int) -> Descriptors:
    """Pads the descriptors with zeros up to `dimension`, which changes no score."""
    missing = dimension - descriptors.shape[1]
    return np.pad(descriptors, ((0, 0), (0, missing))) if missing else descriptors
