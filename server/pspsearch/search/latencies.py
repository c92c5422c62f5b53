"""How long live searches take, with and without other work for the model beside them."""

import time
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager

import numpy as np

_ALONE, _LATELY = 512, 128
"""How many are remembered: of those that had no company, and of all, to notice how it is now."""
_ENOUGH = 32


class Latencies:
    """Holds the last searches against those that had no company: so the one gives the measure for the other."""

    def __init__(self) -> None:
        self._alone: deque[float] = deque(maxlen=_ALONE)
        self._lately: deque[float] = deque(maxlen=_LATELY)
        self._company = 0
        self._last_company = float("-inf")

    @contextmanager
    def company(self) -> Generator[None]:
        """Work for the model that nobody waits for; searches that overlap with the block had company."""
        self._company += 1
        try:
            yield
        finally:
            self._company -= 1
            self._last_company = time.perf_counter()

    def add(self, started: float, seconds: float) -> None:
        """A search that has ended now; `started` as `time.perf_counter` gave it."""
        self._lately.append(seconds)
        if not self._company and self._last_company < started:
            self._alone.append(seconds)

    @property
    def strain(self) -> float:
        """How many times as long the slowest searches take lately as without company; 1 where too few were seen."""
        if min(len(self._alone), len(self._lately)) < _ENOUGH:
            return 1.0
        alone, lately = (float(np.percentile(times, 95)) for times in (self._alone, self._lately))
        return lately / alone
