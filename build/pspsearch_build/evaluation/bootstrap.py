"""How far a mean over queries may be off, by drawing the queries anew many times."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

RESAMPLES = 1000
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with the interval that it lies in with 95 % confidence."""

    mean: float
    low: float
    high: float

    def __format__(self, sign: str) -> str:
        """With three decimals; `+` shows the sign of what is positive, too."""
        return f"{self.mean:{sign}.3f} [{self.low:{sign}.3f}, {self.high:{sign}.3f}]"


def estimate(values: Values, seed: int = 0) -> Estimate:
    """Of one number per query, at least one; percentiles of the means of resamples."""
    random = np.random.default_rng(seed)
    means = np.array([values[random.integers(0, len(values), len(values))].mean() for _ in range(RESAMPLES)])
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(values.mean()), float(low), float(high))


def estimate_difference(values: Values, others: Values, seed: int = 0) -> Estimate:
    """How much greater `values` are than `others`, of the same queries in the same order: pairs are drawn together."""
    assert values.shape == others.shape
    return estimate(values - others, seed)
