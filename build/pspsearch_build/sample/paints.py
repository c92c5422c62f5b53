"""How surfaces look: their colours, and how patterns lie on a solid or a wall."""

from dataclasses import dataclass
from math import cos, radians, sin

import numpy as np

from pspsearch_build.sample.points import Points, Scalars, hypotenuse, point
from pspsearch_build.sample.textures import Place, Texture

Colour = tuple[int, int, int]
"""sRGB from 0 to 255, as people write it."""


def linear(colour: Colour) -> Points:
    """The colour as linear light, (3, 1), which can be added."""
    return point(*((channel / 255) ** 2.2 for channel in colour))


@dataclass(frozen=True, slots=True)
class Paint:
    """Two colours, the pattern that mixes them, and the gloss of the surface."""

    first: Colour
    second: Colour
    texture: Texture
    cell: float = 1.0
    """The size of one cell of the pattern."""
    gloss: float = 0.0
    """From 0, like chalk, to 1, like glaze."""

    def mix(self, place: Place) -> Points:
        """The colour at each place."""
        share = self.texture(place)
        return linear(self.first) * (1 - share) + linear(self.second) * share


def wrap(points: Points, facing: Points, cell: float) -> Place:
    """Wraps the pattern around the y axis, with the seam behind, and in rings on what faces up or down."""
    radius = hypotenuse(points[0], points[2])
    around = np.arctan2(points[0], points[2]) * 0.65
    inwards = np.where(np.abs(facing[1]) > 0.85, radius, points[1])
    return Place(around / cell, inwards / cell, points / cell)


def lay(points: Points, facing: Points, cell: float) -> Place:
    """Lays the pattern flat on each of six sides."""
    steep = np.abs(facing)
    side = (steep[0] > steep[1]) & (steep[0] > steep[2])
    flat = ~side & (steep[1] > steep[2])
    across = np.where(side, points[2], points[0])
    up = np.where(flat, points[2], points[1])
    return Place(across / cell, up / cell, points / cell)


def lay_flat(across: Scalars, along: Scalars, degrees: float, cell: float) -> Place:
    """Lays the pattern on a plane, turned by `degrees`."""
    cosine, sine = cos(radians(degrees)) / cell, sin(radians(degrees)) / cell
    u, v = cosine * across + sine * along, cosine * along - sine * across
    return Place(u, v, np.stack([u, v, np.zeros_like(u)]))
