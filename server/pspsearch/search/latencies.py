"""How long live searches take, with and without other work for the model beside them."""

import time
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager

import numpy as np

_REMEMBERED = 512
_ENOUGH = 32


class Latencies:
    """Tells searches that had company from those that had none, so that the one gives the measure for the other."""

    def __init__(self) -> None:
        self._alone: deque[float] = deque(maxlen=_REMEMBERED)
        self._beside: deque[float] = deque(maxlen=_REMEMBERED)
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
        beside = self._company or self._last_company > started
        (self._beside if beside else self._alone).append(seconds)

    @property
    def strain(self) -> float:
        """How many times as long the slowest searches with company take; 1 where too few were seen to tell."""
        if min(len(self._alone), len(self._beside)) < _ENOUGH:
            return 1.0
        alone, beside = (float(np.percentile(times, 95)) for times in (self._alone, self._beside))
        return beside / alone
