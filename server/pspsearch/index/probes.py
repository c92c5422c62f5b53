"""Measures the recall of live searches, by repeating some of them exactly when there is time."""

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
"""After a repetition, at least this many times its duration passes before the next one."""

_KEPT = 256


@dataclass(frozen=True, slots=True, eq=False)
class _Probe:
    """One search, with the rows that it could find and those that it found."""

    matrix: Matrix
    mask: Mask | None
    sequences: Sequences
    query: Descriptors
    found: Sequences

    def recall(self) -> float:
        """Returns the share of the true nearest rows that was found."""
        selection = Selection.of(self.mask, len(self.matrix))
        _, rows = ExactScan(self.matrix).search(self.query, len(self.found), selection)
        return float(np.isin(self.sequences[rows[0]], self.found).mean())


class Probes:
    """Takes searches from one thread, and repeats them in another."""

    def __init__(self) -> None:
        self._waiting: _Probe | None = None
        self._shares: deque[float] = deque(maxlen=_KEPT)
        self._pause_s = 0.0
        self._last_s = 0.0

    @property
    def recall(self) -> float:
        """The mean recall of the latest repetitions; NaN before the first."""
        return float(np.mean(self._shares)) if self._shares else float("nan")

    def offer(self, view: View, mask: Mask | None, queries: Descriptors, found: list[Found]) -> None:
        """Keeps one search until it is repeated. It holds no more memory than the table does."""
        if self._waiting is None and isinstance(view.base, ApproximateBase) and found[0].ids:
            matrix, sequences = view.table.matrix.first(view.rows), view.table.sequences(view.rows)
            self._waiting = _Probe(matrix, mask, sequences, queries[:1], found[0].sequences)

    def is_due(self, now_s: float) -> bool:
        """Whether a search waits to be repeated, and the pause since the last repetition is over."""
        return self._waiting is not None and now_s - self._last_s >= self._pause_s

    def repeat(self, now_s: float) -> None:
        """Repeats the waiting search exactly, and notes its recall."""
        probe, started = self._waiting, time.perf_counter()
        if probe is not None:
            self._shares.append(probe.recall())
        self._pause_s = max(PAUSE_S, WORTH * (time.perf_counter() - started))
        self._last_s = now_s
        self._waiting = None
