"""Measures how long live searches take, with and without other work for the model at the same time."""

import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager

import numpy as np

_ALONE, _LATELY = 512, 128
"""How many times are kept: of searches that ran without other work, and of the latest searches of any kind."""
_ENOUGH = 32
_REST_S = 10.0
"""After this long without a search, the latest times are out of date."""


class Latencies:
    """Compares the latest searches with those that ran without other work for the model."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        """`clock` returns seconds; the start times given to `add` must come from the same clock."""
        self._clock = clock
        self._alone: deque[float] = deque(maxlen=_ALONE)
        self._lately: deque[float] = deque(maxlen=_LATELY)
        self._company = 0
        self._last_company = self._last_search = float("-inf")

    @contextmanager
    def company(self) -> Generator[None]:
        """The block is background work for the model, and searches that overlap with it do not count as undisturbed."""
        self._company += 1
        try:
            yield
        finally:
            self._company -= 1
            self._last_company = self._clock()

    def add(self, started: float, seconds: float) -> None:
        """Records a search that ends now; `started` is its start on the clock."""
        if started - self._last_search > _REST_S:
            self._lately.clear()
        self._last_search = self._clock()
        self._lately.append(seconds)
        if not self._company and self._last_company < started:
            self._alone.append(seconds)

    @property
    def strain(self) -> float:
        """The 95th percentile of the latest search times over that of undisturbed ones.

        It is 1 if there are too few of either.
        """
        if self._clock() - self._last_search > _REST_S or min(len(self._alone), len(self._lately)) < _ENOUGH:
            return 1.0
        alone, lately = (float(np.percentile(times, 95)) for times in (self._alone, self._lately))
        return lately / alone
