"""Clustered descriptors: like those of pictures, some are near to one another and most are not."""

import numpy as np

from pspsearch.domain import Descriptors


def clustered(count: int, dimension: int, *, clusters: int = 2000, spread: float = 0.7, seed: int = 0) -> Descriptors:
    """Unit rows around `clusters` centres; `spread` is the length of the noise beside a centre of length 1.

    Rows of different seeds lie around the same centres, so that one seed makes a gallery and another its queries.
    """
    centres = np.random.default_rng(12345).standard_normal((clusters, dimension)).astype(np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    generator = np.random.default_rng(seed)
    rows = np.empty((count, dimension), np.float32)
    step = 100_000
    for first in range(0, count, step):
        some = rows[first : first + step]
        some[:] = generator.standard_normal(some.shape, np.float32) * (spread / np.sqrt(dimension))
        some += centres[generator.integers(0, clusters, len(some))]
        some /= np.linalg.norm(some, axis=1, keepdims=True)
    return rows
