"""What a queue before the cores makes of a search's processor time: a prediction, to be made before a change."""

import heapq
import math

import numpy as np
from numpy.typing import NDArray

SEARCHES = 200_000


def waits_ms(core_ms: float, per_second: float, cores: int) -> NDArray[np.float64]:
    """How long each of many searches waits for a core, if they come by chance and go first come, first served.

    Each takes one core for `core_ms`. In truth some steps of a search run beside others, and a search alone finds
    colder caches.
    """
    due_ms = np.cumsum(np.random.default_rng(0).exponential(1000 / per_second, SEARCHES))
    free_ms = [0.0] * cores
    waits = np.empty(SEARCHES)
    for number, came_ms in enumerate(due_ms.tolist()):
        begins_ms = max(came_ms, free_ms[0])
        heapq.heapreplace(free_ms, begins_ms + core_ms)
        waits[number] = begins_ms - came_ms
    return waits


def p99_ms(core_ms: float, per_second: float, cores: int) -> float:
    """The 99th percentile of a search; infinite if more come than the cores can do."""
    if per_second * core_ms >= 1000 * cores:
        return math.inf
    return core_ms + float(np.percentile(waits_ms(core_ms, per_second, cores), 99))
