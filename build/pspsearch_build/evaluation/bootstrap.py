"""Bootstrap intervals: how far a mean over queries may be off, by resampling the queries many times."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

RESAMPLES = 1000
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its 95 % confidence interval."""

    mean: float
    low: float
    high: float

    def __format__(self, sign: str) -> str:
        """The mean and its interval with three decimals; the format `+` also shows the sign of positive numbers."""
        return f"{self.mean:{sign}.3f} [{self.low:{sign}.3f}, {self.high:{sign}.3f}]"


def estimate(values: Values, seed: int = 0) -> Estimate:
    """The mean of one number per query, at least one; the interval's bounds are percentiles of resampled means."""
    random = np.random.default_rng(seed)
    means = np.array([values[random.integers(0, len(values), len(values))].mean() for _ in range(RESAMPLES)])
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(values.mean()), float(low), float(high))


def estimate_difference(values: Values, others: Values, seed: int = 0) -> Estimate:
    """How much greater `values` are than `others`, for the same queries in the same order; resampling keeps pairs."""
    assert values.shape == others.shape
    return estimate(values - others, seed)
