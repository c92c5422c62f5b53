"""How long live searches take, with and without other work for the model beside them."""

import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager

import numpy as np

_ALONE, _LATELY = 512, 128
"""How many are remembered: of those that had no company, and of all, to notice how it is now."""
_ENOUGH = 32
_REST_S = 10.0
"""Without a search for so long, what was late is past."""


class Latencies:
    """Holds the last searches against those that had no company: so the one gives the measure for the other."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        """`clock` gives seconds, from where searches have their beginning."""
        self._clock = clock
        self._alone: deque[float] = deque(maxlen=_ALONE)
        self._lately: deque[float] = deque(maxlen=_LATELY)
        self._company = 0
        self._last_company = self._last_search = float("-inf")

    @contextmanager
    def company(self) -> Generator[None]:
        """Work for the model that nobody waits for; searches that overlap with the block had company."""
        self._company += 1
        try:
            yield
        finally:
            self._company -= 1
            self._last_company = self._clock()

    def add(self, started: float, seconds: float) -> None:
        """A search that has ended now; `started` as the clock gave it."""
        if started - self._last_search > _REST_S:
            self._lately.clear()
        self._last_search = self._clock()
        self._lately.append(seconds)
        if not self._company and self._last_company < started:
            self._alone.append(seconds)

    @property
    def strain(self) -> float:
        """How many times as long the slowest searches take lately as without company; 1 where too few tell."""
        if self._clock() - self._last_search > _REST_S or min(len(self._alone), len(self._lately)) < _ENOUGH:
            return 1.0
        alone, lately = (float(np.percentile(times, 95)) for times in (self._alone, self._lately))
        return lately / alone
