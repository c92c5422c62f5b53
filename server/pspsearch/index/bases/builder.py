"""Builds the bases of one index."""

import logging
from dataclasses import dataclass

import numpy as np

from pspsearch.domain import IndexKind
from pspsearch.index.arrays import Matrix
from pspsearch.index.bases.base import Base
from pspsearch.index.bases.choice import choose_plan
from pspsearch.index.bases.making import build_base
from pspsearch.index.candidates.finder import Advance, FinderFailed
from pspsearch.index.candidates.plan import ExactPlan
from pspsearch.index.memory import IndexMemory

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BaseBuilder:
    """The choices that hold for every base of one index."""

    dimension: int
    kind: IndexKind
    target_recall: float
    memory: IndexMemory

    def build(self, matrix: Matrix, advance: Advance) -> Base:
        """Builds a base over the matrix, planned for its size; on the CPU if the GPU cannot take it."""
        try:
            return self._build(self.memory, matrix, advance)
        except FinderFailed as error:
            log.warning("an index is built for the CPU: %s", error)
            return self._build(self.memory.without_gpu, matrix, advance)

    def extend(self, base: Base, matrix: Matrix, advance: Advance) -> Base:
        """Builds a base over the whole matrix, which begins with the rows of `base`.

        Extends that base if it still fits, and builds anew if not.
        """
        if base.fits(len(matrix)):
            try:
                return base.extended(matrix, advance)
            except FinderFailed as error:
                log.warning("an index is built anew: %s", error)
        return self.build(matrix, advance)

    def _build(self, memory: IndexMemory, matrix: Matrix, advance: Advance) -> Base:
        rows = len(matrix)
        plan = choose_plan(rows, self.dimension, self.kind, memory) if rows else self._no_plan
        return build_base(plan, matrix, self.target_recall, advance)

    @property
    def _no_plan(self) -> ExactPlan:
        """A plan for no rows at all."""
        return ExactPlan(self.dimension, most_rows=0)

    def build_empty(self) -> Base:
        """Builds a base without rows, to begin with. It is never extended."""
        return self.build(np.zeros((0, self.dimension), np.float16), lambda _: None)
