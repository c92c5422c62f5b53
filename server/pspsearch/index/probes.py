"""How much of what it should find an index finds: live searches, repeated exactly when there is time for it."""

import time
from collections import deque
from dataclasses import dataclass

import numpy as np

from pspsearch.domain import Descriptors, Found, Sequences
from pspsearch.index.arrays import Mask, Matrix
from pspsearch.index.bases.approximate_base import ApproximateBase
from pspsearch.index.scoring import ExactScan
from pspsearch.index.selection import Selection
from pspsearch.index.view import View

PAUSE_S = 30.0
WORTH = 100
"""Of the time that a repetition takes, so many times pass before the next one."""

_KEPT = 256


@dataclass(frozen=True, slots=True, eq=False)
class _Probe:
    """One search, with what it saw and what it found."""

    matrix: Matrix
    mask: Mask | None
    sequences: Sequences
    query: Descriptors
    found: Sequences

    def recall(self) -> float:
        """The share of the true nearest that was found."""
        selection = Selection.of(self.mask, len(self.matrix))
        _, rows = ExactScan(self.matrix).search(self.query, len(self.found), selection)
        return float(np.isin(self.sequences[rows[0]], self.found).mean())


class Probes:
    """Searches are offered by one thread and repeated by another."""

    def __init__(self) -> None:
        self._waiting: _Probe | None = None
        self._shares: deque[float] = deque(maxlen=_KEPT)
        self._pause_s = 0.0
        self._last_s = 0.0

    @property
    def recall(self) -> float:
        """The mean of the last ones; not a number before the first."""
        return float(np.mean(self._shares)) if self._shares else float("nan")

    def offer(self, view: View, mask: Mask | None, queries: Descriptors, found: list[Found]) -> None:
        """One search is kept until it is repeated; what it holds on to is no more than the table."""
        if self._waiting is None and isinstance(view.base, ApproximateBase) and found[0].ids:
            matrix, sequences = view.table.matrix.first(view.rows), view.table.sequences(view.rows)
            self._waiting = _Probe(matrix, mask, sequences, queries[:1], found[0].sequences)

    def is_due(self, now_s: float) -> bool:
        """Whether there is one to be repeated, and nobody would feel it."""
        return self._waiting is not None and now_s - self._last_s >= self._pause_s

    def repeat(self, now_s: float) -> None:
        """It, and notes how much had been found."""
        probe, started = self._waiting, time.perf_counter()
        if probe is not None:
            self._shares.append(probe.recall())
        self._pause_s = max(PAUSE_S, WORTH * (time.perf_counter() - started))
        self._last_s = now_s
        self._waiting = None
