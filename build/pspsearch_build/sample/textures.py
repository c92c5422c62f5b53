"""Patterns on surfaces: at each point, a share between a first colour (0) and a second one (1)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from pspsearch_build.sample.points import Points, Scalars, hypotenuse, smoothstep

_LATTICE = 32
"""A power of two."""
_LATTICE_SEED = 20_240_501


@dataclass(frozen=True, slots=True)
class Place:
    """Places on a surface, in cells of the pattern."""

    u: Scalars
    """The coordinate around the thing, or to its right."""
    v: Scalars
    """The coordinate up the thing, or inwards."""
    solid: Points
    """The position in space, for patterns that go through the thing."""


Texture = Callable[[Place], Scalars]


@cache
def _lattice() -> NDArray[np.float32]:
    return np.random.default_rng(_LATTICE_SEED).random(_LATTICE**3, np.float32)


def noise(points: Points) -> Scalars:
    """Smooth random values in [0, 1], with one hill per unit."""
    floor = np.floor(points)
    share = points - floor
    share = share * share * (3 - 2 * share)
    low = floor.astype(np.int32) & (_LATTICE - 1)
    high = (low + 1) & (_LATTICE - 1)
    lattice = _lattice()
    total = np.zeros(points.shape[1], np.float32)
    for corner in range(8):
        x, y, z = ((high if corner >> axis & 1 else low)[axis] for axis in range(3))
        u, v, w = (share[axis] if corner >> axis & 1 else 1 - share[axis] for axis in range(3))
        node: NDArray[np.int32] = (x * _LATTICE + y) * _LATTICE + z
        total += u * v * w * lattice.take(node)
    return total


def _fraction(values: Scalars) -> Scalars:
    return values - np.floor(values)


def _parity(whole: Scalars) -> Scalars:
    """0 for even numbers, 1 for odd ones."""
    return 2 * _fraction(whole * 0.5)


def _rough(points: Points) -> Scalars:
    """Noise with finer noise on top, in [0, 1]."""
    return (noise(points) * 4 + noise(points * 2.03) * 2 + noise(points * 4.1)) / 7


def _checker(place: Place) -> Scalars:
    column: Scalars = np.floor(place.u)
    row: Scalars = np.floor(place.v)
    return _parity(column + row)


def _stripes(place: Place) -> Scalars:
    return _parity(np.floor(place.v * 1.2))


def _bands(place: Place) -> Scalars:
    return _parity(np.floor(place.u * 1.2))


def _dots(place: Place) -> Scalars:
    row = np.floor(place.v)
    across, up = _fraction(place.u + 0.5 * _parity(row)) - 0.5, place.v - row - 0.5
    return smoothstep(0.34, 0.30, hypotenuse(across, up))


def _bricks(place: Place) -> Scalars:
    row = np.floor(place.v * 2)
    shifted = place.u * 0.9 + 0.5 * _parity(row)
    column = np.floor(shifted)
    joint = (place.v * 2 - row < 0.16) | (shifted - column < 0.08)
    shade = 0.3 * _fraction(np.sin(row * 12.9 + column * 78.2) * 43.7)
    return np.where(joint, 1, shade).astype(np.float32)


def _zigzag(place: Place) -> Scalars:
    return _parity(np.floor(place.v * 1.3 + 1.2 * np.abs(_fraction(place.u) - 0.5)))


def _plaid(place: Place) -> Scalars:
    return 0.5 * np.floor(_fraction(place.u) + 0.45) + 0.5 * np.floor(_fraction(place.v) + 0.45)


def _wood(place: Place) -> Scalars:
    x, y, z = place.solid * 0.55
    bend = noise(np.stack([x * 1.5, y * 0.4, z * 1.5]))
    rings = _fraction(hypotenuse(x + 0.3 * y, z + 2.2) * 4 + bend * 2.6)
    grain = noise(np.stack([x * 22, y * 1.6, z * 22]))
    return np.clip(rings**1.6 * 0.75 + 0.3 * grain, 0, 1)


def _marble(place: Place) -> Scalars:
    x, y, z = place.solid * 0.5
    veins = np.abs(np.sin(2.2 * (x + 0.8 * y + 0.5 * z) + 7 * _rough(place.solid * 0.8)))
    return (1 - veins) ** 2.5


def _clouds(place: Place) -> Scalars:
    return smoothstep(0.35, 0.65, _rough(place.solid * 0.9))


def _terrazzo(place: Place) -> Scalars:
    return smoothstep(0.60, 0.64, noise(place.solid * 2.4))


def _gradient(place: Place) -> Scalars:
    return smoothstep(0.3, 5, place.solid[1])


TEXTURES: dict[str, Texture] = {
    "checker": _checker,
    "stripes": _stripes,
    "bands": _bands,
    "dots": _dots,
    "bricks": _bricks,
    "zigzag": _zigzag,
    "plaid": _plaid,
    "wood": _wood,
    "marble": _marble,
    "clouds": _clouds,
    "terrazzo": _terrazzo,
    "gradient": _gradient,
}
"""The textures, by the name that pictures are tagged with."""


def plain(place: Place) -> Scalars:
    """No pattern."""
    return np.zeros_like(place.u)


def plaster(place: Place) -> Scalars:
    """A quiet wall or floor."""
    return _rough(place.solid * 1.5)


def planks(place: Place) -> Scalars:
    """A wooden floor."""
    board = np.floor(place.u)
    shifted = place.v * 0.22 + 0.37 * board
    end = np.floor(shifted)
    gap = (place.u - board < 0.04) | (shifted - end < 0.008)
    shade = _fraction(np.sin(board * 12.9 + end * 78.2) * 43.7)
    grain = noise(np.stack([place.u * 9, place.v * 0.7, board]))
    return np.where(gap, 1, 0.45 * shade + 0.35 * grain).astype(np.float32)
