"""What is measured of every system."""

from dataclasses import dataclass, field

import numpy as np


@dataclass(slots=True)
class Measured:
    """All rounds of one system."""

    alone_ms: list[float] = field(default_factory=list[float])
    rates: list[float] = field(default_factory=list[float])

    @property
    def rate(self) -> float:
        """Searches per second."""
        return float(np.mean(self.rates))
