"""Exact scores of stored descriptors, and answers made of them."""

import faiss
import numpy as np
from numpy.typing import NDArray

from pspsearch.domain import Descriptors
from pspsearch.index.arrays import Matrix, RowNumbers
from pspsearch.index.selection import Selection

Answers = tuple[NDArray[np.float32], RowNumbers]
"""Scores and row numbers, queries x count, best first and ties by lower row; padded with -inf and -1."""

GATHER_SHARE = 1 / 16
"""Up to this share, gathering the kept rows first costs less than asking the selector about every row."""

GATHER_NUMBERS = 1 << 22
"""How many numbers of candidates are widened to float32 at a time."""


def flat_over(matrix: Matrix) -> faiss.IndexScalarQuantizer:
    """Makes a FAISS index whose codes are the matrix itself, because FAISS stores fp16 the same way.

    The matrix must outlive the index.
    """
    assert matrix.dtype == np.float16, matrix.dtype
    assert matrix.flags.c_contiguous
    index = faiss.IndexScalarQuantizer(matrix.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    if len(matrix):
        codes = index.codes  # a vector type that either owns its memory or refers to foreign memory
        start = faiss.swig_ptr(matrix.reshape(-1).view(np.uint8))
        codes.is_owned = False
        codes.view_data = codes.c_ptr = start
        codes.view_size = codes.c_size = matrix.nbytes
        index.ntotal = len(matrix)
    return index


def as_float32(rows: Matrix) -> Descriptors:
    """Converts rows to float32. FAISS does it two to four times as fast as NumPy, which took a third of a search."""
    return faiss.ScalarQuantizer(rows.shape[1], faiss.ScalarQuantizer.QT_fp16).decode(rows.view(np.uint8))


class ExactScan:
    """Scores every kept row of a matrix without copying it. One thread at a time may use it."""

    def __init__(self, matrix: Matrix) -> None:
        self._matrix = matrix
        self._index = flat_over(matrix)

    def search(self, queries: Descriptors, count: int, selection: Selection) -> Answers:
        """Returns the exact `count` best of the selected rows, padded if there are fewer."""
        wanted = min(count, selection.kept)
        if wanted == 0 or len(queries) == 0:
            return nothing(len(queries), count)
        if selection.kept <= GATHER_SHARE * selection.rows:
            gathered = ExactScan(self._matrix[selection.numbers])
            scores, places = gathered._nearest(queries, wanted, wanted + 1, Selection.of(None, selection.kept))
            return padded(scores, selection.numbers[places], count)
        return padded(*self._nearest(queries, wanted, wanted + 1, selection), count)

    def _nearest(self, queries: Descriptors, count: int, fetched: int, selection: Selection) -> Answers:
        fetched = min(fetched, selection.kept)
        parameters = faiss.SearchParameters(sel=selection.selector)
        scores, rows = ordered(*self._index.search(queries, fetched, params=parameters))
        best_scores, best_rows = scores[:, :count], rows[:, :count]
        tied = scores[:, -1] == scores[:, count - 1]  # more rows with that score, and lower numbers, may follow
        if fetched < selection.kept and tied.any():
            best_scores[tied], best_rows[tied] = self._nearest(queries[tied], count, 4 * fetched, selection)
        return best_scores, best_rows


def refine(matrix: Matrix, queries: Descriptors, candidates: RowNumbers, count: int) -> Answers:
    """Returns the `count` best of each query's own candidates, scored in float32; -1 marks no candidate."""
    scores = np.empty(candidates.shape, np.float32)
    step = max(1, GATHER_NUMBERS // max(1, candidates.shape[1] * matrix.shape[1]))
    for start in range(0, len(queries), step):
        block = slice(start, start + step)
        # einsum, because BLAS would round a pair's score by the size of its batch, and start threads for a few rows.
        of_block = as_float32(matrix[candidates[block].reshape(-1)]).reshape(*candidates[block].shape, -1)
        np.einsum("qcd,qd->qc", of_block, queries[block], out=scores[block])
    scores[candidates < 0] = -np.inf
    scores, rows = ordered(scores, candidates)
    return padded(scores[:, :count], rows[:, :count], count)


def ordered(scores: NDArray[np.float32], rows: RowNumbers) -> Answers:
    """Sorts each answer: best first, ties by lower row."""
    order = np.lexsort((rows, -scores))
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)


def nothing(queries: int, count: int) -> Answers:
    """Returns an answer with no row for any query."""
    return np.full((queries, count), -np.inf, np.float32), np.full((queries, count), -1, np.int64)


def padded(scores: NDArray[np.float32], rows: RowNumbers, count: int) -> Answers:
    """Pads each answer to `count` places."""
    filled_scores, filled_rows = nothing(len(scores), count)
    filled_scores[:, : scores.shape[1]] = scores
    filled_rows[:, : rows.shape[1]] = rows
    return filled_scores, filled_rows
