"""What bases are made by."""

import logging
from dataclasses import dataclass

import numpy as np

from pspsearch.domain import IndexKind
from pspsearch.index.base import Base, Matrix
from pspsearch.index.bases import build_base
from pspsearch.index.finder import Advance, FinderFailed
from pspsearch.index.plan import ExactPlan
from pspsearch.index.planner import Room, choose_plan

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recipe:
    """The choices that hold for every base of one index."""

    dimension: int
    kind: IndexKind
    target_recall: float
    room: Room

    def build(self, matrix: Matrix, advance: Advance) -> Base:
        """A base over the matrix, planned for its size; for the CPU where the GPU cannot take it."""
        try:
            return self._build(self.room, matrix, advance)
        except FinderFailed as error:
            log.warning("an index is built for the CPU: %s", error)
            return self._build(self.room.without_gpu, matrix, advance)

    def extend(self, base: Base, matrix: Matrix, advance: Advance) -> Base:
        """One over the whole matrix, whose first rows are the base's: with what that has, where it still fits."""
        if base.fits(len(matrix)):
            try:
                return base.extended(matrix, advance)
            except FinderFailed as error:
                log.warning("an index is built anew: %s", error)
        return self.build(matrix, advance)

    def _build(self, room: Room, matrix: Matrix, advance: Advance) -> Base:
        rows = len(matrix)
        plan = choose_plan(rows, self.dimension, self.kind, room) if rows else self._no_plan
        return build_base(plan, matrix, self.target_recall, advance)

    @property
    def _no_plan(self) -> ExactPlan:
        """One that fits nothing but no rows."""
        return ExactPlan(self.dimension, most_rows=0)

    def build_empty(self) -> Base:
        """A base without rows, to begin with; it is never extended."""
        return self.build(np.zeros((0, self.dimension), np.float16), lambda _: None)
