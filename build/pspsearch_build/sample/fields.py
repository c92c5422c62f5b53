"""Signed distance fields: how far each point is from a solid, negative inside.

Far away a field may return less than the distance, but never much more.
"""

from collections.abc import Callable
from math import cos, pi, radians, sin

import numpy as np

from pspsearch_build.sample.points import Points, Scalars, dot, hypotenuse, length, point

Field = Callable[[Points], Scalars]

Spot = tuple[float, float, float]
"""One point as plain numbers."""


def sphere(centre: Spot, radius: float) -> Field:
    """A ball."""
    middle = point(*centre)
    return lambda points: length(points - middle) - radius


def box(centre: Spot, half: Spot, rounding: float = 0.02) -> Field:
    """A box with rounded edges; `half` is half its outer width, height and depth."""
    middle, inner = point(*centre), point(*half) - rounding

    def distance(points: Points) -> Scalars:
        x, y, z = np.abs(points - middle) - inner
        outside = np.sqrt(np.maximum(x, 0) ** 2 + np.maximum(y, 0) ** 2 + np.maximum(z, 0) ** 2)
        return outside + np.minimum(np.maximum(np.maximum(x, y), z), 0) - rounding

    return distance


def cylinder(centre: Spot, radius: float, half_length: float, axis: int = 1, rounding: float = 0.02) -> Field:
    """A cylinder along the axis with that number, with rounded rims."""
    middle = point(*centre)
    across = [number for number in range(3) if number != axis]

    def distance(points: Points) -> Scalars:
        local = points - middle
        radial = hypotenuse(local[across[0]], local[across[1]]) - (radius - rounding)
        axial = np.abs(local[axis]) - (half_length - rounding)
        outside = hypotenuse(np.maximum(radial, 0), np.maximum(axial, 0))
        return outside + np.minimum(np.maximum(radial, axial), 0) - rounding

    return distance


def torus(centre: Spot, ring_radius: float, tube_radius: float, axis: int = 1) -> Field:
    """A ring around the axis with that number."""
    middle = point(*centre)
    across = [number for number in range(3) if number != axis]

    def distance(points: Points) -> Scalars:
        local = points - middle
        radial = hypotenuse(local[across[0]], local[across[1]]) - ring_radius
        return hypotenuse(radial, local[axis]) - tube_radius

    return distance


def stick(start: Spot, end: Spot, start_radius: float, end_radius: float) -> Field:
    """A capsule that tapers from one end to the other."""
    foot = point(*start)
    along = point(*end) - foot
    span = float(dot(along, along)[0])

    def distance(points: Points) -> Scalars:
        local = points - foot
        share = np.clip(dot(local, along) / span, 0, 1)
        return length(local - along * share) - (start_radius + (end_radius - start_radius) * share)

    return distance


def union(*fields: Field) -> Field:
    """The union of all fields."""

    def distance(points: Points) -> Scalars:
        nearest = fields[0](points)
        for field in fields[1:]:
            nearest = np.minimum(nearest, field(points))
        return nearest

    return distance


def without(field: Field, taken: Field) -> Field:
    """The first field with the second one cut out."""
    return lambda points: np.maximum(field(points), -taken(points))


def mirrored(field: Field, *, deep: bool = False) -> Field:
    """The half with positive x (and, if `deep`, positive z) and its mirror image."""

    def distance(points: Points) -> Scalars:
        return field(np.stack([np.abs(points[0]), points[1], np.abs(points[2]) if deep else points[2]]))

    return distance


def repeated(field: Field, times: int) -> Field:
    """The part around +x, repeated so many times around the y axis."""
    sector = 2 * pi / times

    def distance(points: Points) -> Scalars:
        angle: Scalars = np.arctan2(points[2], points[0])
        angle = angle - sector * np.floor(angle / sector + 0.5)
        radius = hypotenuse(points[0], points[2])
        return field(np.stack([radius * np.cos(angle), points[1], radius * np.sin(angle)]))

    return distance


def turned(field: Field, degrees: float, axis: int = 1) -> Field:
    """The field, turned about the axis with that number through the origin."""
    first, second = (axis + 1) % 3, (axis + 2) % 3
    cosine, sine = cos(radians(degrees)), sin(radians(degrees))

    def distance(points: Points) -> Scalars:
        local = points.copy()
        local[first] = cosine * points[first] + sine * points[second]
        local[second] = cosine * points[second] - sine * points[first]
        return field(local)

    return distance


def moved(field: Field, by: Spot) -> Field:
    """The field, moved by an offset."""
    offset = point(*by)
    return lambda points: field(points - offset)
