"""Makes solids of revolution from a drawn profile."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pspsearch_build.sample.fields import Field
from pspsearch_build.sample.points import Scalars, hypotenuse
from pspsearch_build.sample.sheets import Sheet

Profile = Sequence[tuple[float, float]]
"""Points (radius, height) from the lower end of the axis to the upper one. Corners are rounded unless given twice."""

_CELL = 0.0125
_MARGIN = 0.25
"""How far beyond the profile the grid reaches, so that distances up to that length are known."""
_ROUNDS = 3


def lathe(profile: Profile) -> Field:
    """The solid that the profile makes around the y axis.

    Its distances are computed once, on a grid of 0.0125 units, and interpolated between the nodes.
    """
    outline = _round_corners(np.array(profile, np.float32))
    low = float(outline[:, 1].min()) - _MARGIN
    across = np.arange(0, float(outline[:, 0].max()) + _MARGIN, _CELL)
    up = np.arange(low, float(outline[:, 1].max()) + _MARGIN, _CELL)
    # beyond the grid, the nearest place on its border gives a distance that is never too long
    sheet = Sheet(_measure(outline, across, up), _CELL, 0, low)
    return lambda points: sheet.read(hypotenuse(points[0], points[2]), points[1])


def _round_corners(outline: NDArray[np.float32]) -> NDArray[np.float32]:
    """Chaikin's corner cutting: keeps the middle half of every edge, and both ends."""
    for _ in range(_ROUNDS):
        start, end = outline[:-1], outline[1:]
        cut = np.stack([0.75 * start + 0.25 * end, 0.25 * start + 0.75 * end], axis=1).reshape(-1, 2)
        outline = np.concatenate([outline[:1], cut, outline[-1:]])
    kept = np.append(True, np.abs(np.diff(outline, axis=0)).sum(axis=1) > 1e-6)
    return outline[kept]


def _measure(outline: NDArray[np.float32], radii: NDArray[np.float64], heights: NDArray[np.float64]) -> Scalars:
    """Signed distances, heights x radii."""
    radius, height = (values.astype(np.float32) for values in np.meshgrid(radii, heights))
    squared = np.full(radius.shape, np.inf, np.float32)
    inside = np.zeros(radius.shape, bool)
    for (r0, h0), (r1, h1) in pairwise(outline):
        dr, dh = r1 - r0, h1 - h0
        share = np.clip(((radius - r0) * dr + (height - h0) * dh) / (dr * dr + dh * dh), 0, 1)
        squared = np.minimum(squared, (radius - r0 - dr * share) ** 2 + (height - h0 - dh * share) ** 2)
        if dh:
            crossing = (h0 > height) != (h1 > height)
            inside ^= crossing & (radius < r0 + (height - h0) * dr / dh)
    return np.where(inside, -1, 1).astype(np.float32) * np.sqrt(squared)
