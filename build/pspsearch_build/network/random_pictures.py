"""Draws coloured procedural pictures, to calibrate an untrained network without photographs."""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pspsearch.model.contract import InputShape

_Picture = NDArray[np.float64]


def random_pictures(count: int, shape: InputShape, seed: int) -> Iterator[NDArray[np.uint8]]:
    """`count` pictures [height_px, width_px, 3] that differ in colour, texture, layout and contrast.

    Each is a gradient under waves and blotches, under a few ellipses and rectangles, under a little noise. The same
    seed gives the same pictures, and a longer run starts like a shorter one.
    """
    for index in range(count):
        yield _draw(np.random.default_rng((seed, index)), shape)


def _draw(rng: np.random.Generator, shape: InputShape) -> NDArray[np.uint8]:
    y = np.linspace(-0.5, 0.5, shape.height_px)[:, None]
    x = np.linspace(-0.5, 0.5, shape.width_px)[None, :]
    picture = _gradient(rng, y, x)
    for _ in range(rng.integers(0, 3)):
        picture += rng.uniform(0, 60) * _waves(rng, y, x)[..., None] * rng.normal(size=3)
    picture += rng.uniform(0, 60) * _blotches(rng, shape)
    for _ in range(rng.integers(0, 9)):
        inside = _silhouette(rng, y, x)
        shading = rng.uniform(0, 40) * _waves(rng, y, x)[..., None] + rng.uniform(0, 255, 3)
        picture = np.where(inside[..., None], shading, picture)
    picture += rng.uniform(0, 12) * rng.normal(size=picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


def _gradient(rng: np.random.Generator, y: _Picture, x: _Picture) -> _Picture:
    """A gradient from one random colour to another, in a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    along = np.clip(0.5 + np.cos(angle) * x + np.sin(angle) * y, 0, 1)[..., None]
    return along * rng.uniform(0, 255, 3) + (1 - along) * rng.uniform(0, 255, 3)


def _waves(rng: np.random.Generator, y: _Picture, x: _Picture) -> _Picture:
    """Stripes of random direction and spacing, in [-1, 1]."""
    angle, waves = rng.uniform(0, 2 * np.pi), math.exp(rng.uniform(math.log(2), math.log(60)))
    return np.sin(2 * np.pi * (waves * (np.cos(angle) * x + np.sin(angle) * y) + rng.uniform()))


def _blotches(rng: np.random.Generator, shape: InputShape) -> _Picture:
    """Smooth noise of random grain and unit spread, independent for each colour."""
    grain = int(math.exp(rng.uniform(math.log(2), math.log(24))))
    coarse = rng.normal(size=(grain + 1, grain + 1, 3))
    lines = _between(coarse, shape.height_px)
    return _between(lines.transpose(1, 0, 2), shape.width_px).transpose(1, 0, 2)


def _between(points: _Picture, pixels: int) -> _Picture:
    """Interpolates `points` linearly along the first axis to `pixels` values."""
    places = np.linspace(0, len(points) - 1, pixels)
    below = np.minimum(places.astype(int), len(points) - 2)
    share = (places - below)[:, None, None]
    return (1 - share) * points[below] + share * points[below + 1]


def _silhouette(rng: np.random.Generator, y: _Picture, x: _Picture) -> NDArray[np.bool_]:
    """The inside of a rotated ellipse or rectangle."""
    angle, (height, width) = rng.uniform(0, np.pi), rng.uniform(0.04, 0.4, 2)
    from_x, from_y = x - rng.uniform(-0.5, 0.5), y - rng.uniform(-0.5, 0.5)
    along = (np.cos(angle) * from_x + np.sin(angle) * from_y) / width
    across = (np.cos(angle) * from_y - np.sin(angle) * from_x) / height
    if rng.uniform() < 0.5:
        return np.asarray(along**2 + across**2 < 1)
    return np.asarray(np.maximum(abs(along), abs(across)) < 1)
