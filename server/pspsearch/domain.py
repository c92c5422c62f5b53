"""The words of pspsearch as types."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pspsearch.contract import Contract

Pixels = NDArray[np.uint8]
"""Decoded RGB: height x width x 3 for one image, with a leading axis for several."""

Descriptors = NDArray[np.float32]
"""Unit-length rows, one per image: count x dimension."""


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One numbered version of a Triton model, with what it promises."""

    model: str
    version: int
    contract: Contract

    def __str__(self) -> str:
        return f"{self.model}/{self.version}"
