"""The base that scores only likely rows."""

import logging
import math
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pspsearch.domain import Descriptors
from pspsearch.index.arrays import Mask, Matrix, RowNumbers
from pspsearch.index.bases.base_file import BaseHeader, write_base_file
from pspsearch.index.bases.threads import one_thread
from pspsearch.index.bases.tuning import DEPTH, TO_MEASURE_AGAIN, TO_TUNE, Queries, draw_sample, measure, tune
from pspsearch.index.candidates.finder import Advance, Effort, Finder, FinderFailed, part
from pspsearch.index.scoring import Answers, ExactScan, nothing, refine
from pspsearch.index.selection import Selection

log = logging.getLogger(__name__)

WIDENING = 4
"""How much broader each further search for a short answer is."""


class ApproximateBase:
    """A Base that scores a finder's candidates exactly, or all kept rows if that costs no more."""

    def __init__(
        self, finder: Finder, matrix: Matrix, effort: Effort, target_recall: float, measured_recall: float = 0.0
    ) -> None:
        assert finder.rows == len(matrix)
        self._finder = finder
        self._matrix = matrix
        self._scan = ExactScan(matrix)
        self._effort = effort
        self._target_recall = target_recall
        self.measured_recall = measured_recall

    @classmethod
    def tuned(cls, finder: Finder, matrix: Matrix, target_recall: float, advance: Advance) -> Self:
        """Returns a base with the least effort that reaches the target on one sample, and its recall on another."""
        sample = draw_sample(matrix, TO_TUNE.of(len(matrix)), 0, part(advance, 0.0, 0.5))
        effort = tune(finder, matrix.shape[1], sample, target_recall)
        return cls(finder, matrix, effort, target_recall).measured(TO_TUNE, part(advance, 0.5, 1.0))

    def measured(self, queries: Queries, advance: Advance) -> Self:
        """Returns the same base with its recall on a sample of queries that it was not tuned on."""
        sample = draw_sample(self._matrix, queries.of(self.rows), 1, advance)
        recall = measure(lambda queries, count: self.search(queries, count)[1], sample)
        return type(self)(self._finder, self._matrix, self._effort, self._target_recall, recall)

    @property
    def rows(self) -> int:
        """See Base."""
        return self._finder.rows

    @property
    def plan(self) -> str:
        """See Base."""
        return f"{self._finder.plan}; {self._finder.words(self._effort)}"

    @property
    def size_bytes(self) -> int:
        """See Base."""
        return self._finder.size_bytes

    def fits(self, rows: int) -> bool:
        """See Base."""
        return self._finder.plan.fits(rows)

    def search(
        self, queries: Descriptors, count: int, keep: Mask | None = None
    ) -> tuple[NDArray[np.float32], RowNumbers]:
        """See Base."""
        selection = Selection.of(keep, self.rows)
        if selection.kept <= count:
            return self._scan.search(queries, count, selection)
        breadth = self._breadth(count, selection)
        if self._scans_cheaper(breadth, selection):
            return self._scan.search(queries, count, selection)
        try:
            return self._fill(nothing(len(queries), count), queries, breadth, selection)
        except FinderFailed as error:
            log.warning("a search scores every row: %s", error)
            return self._scan.search(queries, count, selection)

    def _breadth(self, count: int, selection: Selection) -> int:
        """Returns the breadth for this count and selection.

        It grows with the square root of how deep among all rows the last answer is expected, because the effort is
        tuned for the nearest of all rows. On clustered data and on curved surfaces, with masks that keep half to 1 %,
        this growth kept the recall, and a constant breadth lost it.
        """
        depth = max(DEPTH, count) / selection.share
        grown = math.ceil(self._effort.breadth * math.sqrt(depth / DEPTH))
        return min(grown, self._finder.breadths[-1])

    def _scans_cheaper(self, breadth: int, selection: Selection) -> bool:
        scanned_bytes = selection.kept * 2 * self._matrix.shape[1]
        return scanned_bytes <= self._finder.visited_bytes(breadth)

    def _fill(self, answers: Answers, queries: Descriptors, breadth: int, selection: Selection) -> Answers:
        """Searches for each query, ever more broadly, until it has `count` rows.

        If the mask goes by content, none of the kept rows may be near.
        """
        scores, rows = answers
        count = rows.shape[1]
        short = np.arange(len(queries))
        widest = self._finder.breadths[-1]
        while len(short):
            candidates = self._finder.find(queries[short], count * self._effort.k_factor, breadth, selection)
            scores[short], rows[short] = refine(self._matrix, queries[short], candidates, count)
            short = short[rows[short, -1] < 0]
            if breadth == widest:
                break
            breadth = min(WIDENING * breadth, widest)
        if len(short):
            scores[short], rows[short] = self._scan.search(queries[short], count, selection)
        return scores, rows

    def extended(self, matrix: Matrix, advance: Advance) -> Self:
        """See Base. The effort stays if it still reaches the target, and is otherwise tuned again."""
        matrix = np.asarray(matrix)
        with one_thread():
            finder = self._finder.extended(matrix, part(advance, 0.0, 0.5))
            base = type(self)(finder, matrix, self._effort, self._target_recall)
            base = base.measured(TO_MEASURE_AGAIN, part(advance, 0.5, 0.7))
            if base.measured_recall < self._target_recall:
                base = type(self).tuned(finder, matrix, self._target_recall, part(advance, 0.7, 1.0))
            advance(1.0)
            return base

    def write(self, path: Path) -> None:
        """See Base."""
        header = BaseHeader(self._finder.plan, self.rows, self._effort, self._target_recall, self.measured_recall)
        write_base_file(path, header, self._finder.stored())
