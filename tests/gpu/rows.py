"""The results of the checks."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    what: str
    found: str
    wanted: str = ""
    """Empty for a figure that is only reported."""
    passed: bool = True


def at_least(what: str, found: float, wanted: float) -> Row:
    """A figure with a lower bound."""
    return Row(what, f"{found:.4f}", f">= {wanted}", found >= wanted)


def holds(what: str, *, passed: bool) -> Row:
    """A statement that holds or does not."""
    return Row(what, "yes" if passed else "no", "yes", passed)


def median_ms(act: Callable[[], object], times: int) -> float:
    """The median time of one call, after two that do not count."""
    taken: list[float] = []
    for _ in range(times + 2):
        started = time.perf_counter()
        act()
        taken.append(1000 * (time.perf_counter() - started))
    return float(np.median(taken[2:]))
