"""The shapes of the gallery's things: solids that stand on y = 0 and face +z.

Each shape draws its own proportions, so that two mugs differ.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from pspsearch_build.sample.fields import (
    Field,
    box,
    cylinder,
    mirrored,
    moved,
    repeated,
    sphere,
    stick,
    torus,
    turned,
    union,
    without,
)
from pspsearch_build.sample.lathe import lathe


class Role(IntEnum):
    """Which of a thing's paints a part wears."""

    BODY = 0
    """The texture."""
    ACCENT = 1
    """The second colour, plain."""
    TRIM = 2
    """A quiet colour that suits every thing: dark, light or metal."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A solid made of parts."""

    parts: tuple[tuple[Role, Field], ...]
    round: bool
    """Whether the texture is wrapped around the y axis, or laid on from six sides."""


def _shape(*, body: Field, accent: Field | None = None, trim: Field | None = None, revolved: bool = False) -> Shape:
    fields = ((Role.BODY, body), (Role.ACCENT, accent), (Role.TRIM, trim))
    return Shape(tuple((role, field) for role, field in fields if field is not None), revolved)


def _ball(rng: np.random.Generator) -> Shape:
    radius = rng.uniform(0.8, 1.0)
    return _shape(body=sphere((0, radius, 0), radius), revolved=True)


def _bottle(rng: np.random.Generator) -> Shape:
    belly, height, neck = rng.uniform(0.42, 0.6), rng.uniform(0.9, 1.3), rng.uniform(0.15, 0.2)
    top = height + rng.uniform(0.75, 0.95)
    glass = [(0, 0), (belly, 0), (belly, 0), (belly, height), (belly * 0.9, height + 0.3), (neck, height + 0.3)]
    glass += [(neck, top), (neck, top), (0, top)]
    stopper = cylinder((0, top + 0.06, 0), neck * 1.25, 0.12)
    return _shape(body=lathe(glass), accent=stopper, revolved=True)


def _chair(rng: np.random.Generator) -> Shape:
    half, seat, back = rng.uniform(0.5, 0.62), rng.uniform(0.75, 0.95), rng.uniform(0.8, 1.15)
    legs = stick((half - 0.09, 0.05, half - 0.09), (half - 0.12, seat, half - 0.12), 0.06, 0.085)
    posts = stick((half - 0.1, seat, 0.1 - half), (half - 0.1, seat + back, -half), 0.075, 0.07)
    rest = turned(box((0, 0, 0), (half - 0.04, back * rng.uniform(0.2, 0.38), 0.06), 0.05), -6, axis=0)
    cushion = box((0, seat, 0), (half, 0.1, half), 0.09)
    body = union(cushion, moved(rest, (0, seat + back * 0.68, -half + 0.03)))
    return _shape(body=body, accent=union(mirrored(legs, deep=True), mirrored(posts)))


def _cone(rng: np.random.Generator) -> Shape:
    width, height = rng.uniform(0.5, 0.65), rng.uniform(1.5, 1.9)
    body = [(0, 0.05), (width, 0.05), (width, 0.05), (0.1, height), (0.1, height), (0, height)]
    foot = box((0, 0.07, 0), (width * 1.35, 0.07, width * 1.35), 0.05)
    return _shape(body=lathe(body), accent=foot, revolved=True)


def _dumbbell(rng: np.random.Generator) -> Shape:
    radius, half = rng.uniform(0.42, 0.58), rng.uniform(0.62, 0.85)
    outer = cylinder((half, radius, 0), radius, rng.uniform(0.13, 0.2), axis=0, rounding=0.07)
    inner = cylinder((half - 0.28, radius, 0), radius * 0.72, 0.12, axis=0, rounding=0.06)
    bar = union(cylinder((0, radius, 0), 0.12, half, axis=0), cylinder((0, radius, 0), 0.07, half + 0.3, axis=0))
    return _shape(body=mirrored(outer), accent=mirrored(inner), trim=bar)


def _gift(rng: np.random.Generator) -> Shape:
    width, height, depth = rng.uniform(0.65, 0.95), rng.uniform(0.4, 0.8), rng.uniform(0.6, 0.85)
    ribbon = union(
        box((0, height + 0.012, 0), (0.12, height + 0.012, depth + 0.025)),
        box((0, height + 0.012, 0), (width + 0.025, height + 0.012, 0.12)),
    )
    loop = turned(torus((0.27, 0, 0), 0.2, 0.075, axis=2), 28, axis=2)
    bow = union(mirrored(moved(loop, (0, 2 * height + 0.07, 0))), sphere((0, 2 * height + 0.1, 0), 0.13))
    return _shape(body=box((0, height, 0), (width, height, depth), 0.03), accent=union(ribbon, bow))


def _goblet(rng: np.random.Generator) -> Shape:
    rim, foot, stem = rng.uniform(0.5, 0.65), rng.uniform(0.42, 0.55), rng.uniform(0.6, 0.85)
    top = stem + rng.uniform(0.8, 1.05)
    base = [(0, 0), (foot, 0), (foot, 0.06), (0.12, 0.12), (0.085, stem - 0.1), (0.2, stem + 0.02), (0, stem + 0.04)]
    cup = [(0, stem), (rim * 0.7, stem + 0.05), (rim * 1.05, stem + 0.45), (rim, top), (rim, top)]
    cup += [(rim - 0.06, top), (rim - 0.06, top), (rim * 0.95, stem + 0.5), (rim * 0.6, stem + 0.15), (0, stem + 0.12)]
    return _shape(body=lathe(cup), accent=lathe(base), revolved=True)


def _house(rng: np.random.Generator) -> Shape:
    width, depth, wall = rng.uniform(0.6, 0.85), rng.uniform(0.6, 0.8), rng.uniform(0.7, 1.05)
    slope = box((0, 0, 0), (0.56 * width + 0.22, 0.05, depth + 0.14))
    lift = 0.56 * width - 0.05
    roof = mirrored(moved(turned(slope, -42, axis=2), (width * 0.5 + 0.06, wall + lift, 0)))
    gable = turned(box((0, 0, 0), (width * 0.7, width * 0.7, depth - 0.03)), 45, axis=2)
    attic = _above(moved(gable, (0, wall - 0.03, 0)), wall - 0.05)
    chimney = box((width * 0.5, wall + width * 0.8, -depth * 0.3), (0.12, 0.35, 0.12))
    door = box((-width * 0.35, 0.28, depth), (0.17, 0.28, 0.03))
    panes = union(box((width * 0.38, 0.48, depth), (0.17, 0.17, 0.03)), box((width, 0.48, 0), (0.03, 0.17, 0.2)))
    body = union(box((0, wall / 2, 0), (width, wall / 2, depth)), attic)
    return _shape(body=body, accent=union(roof, door), trim=union(chimney, panes))


def _above(field: Field, height: float) -> Field:
    return lambda points: np.maximum(field(points), height - points[1])


def _lamp(rng: np.random.Generator) -> Shape:
    wide, narrow, stem = rng.uniform(0.62, 0.8), rng.uniform(0.3, 0.45), rng.uniform(1.0, 1.3)
    top = stem + rng.uniform(0.65, 0.85)
    shade = [(0, stem + 0.3), (wide - 0.1, stem), (wide - 0.1, stem), (wide, stem), (wide, stem), (narrow, top)]
    shade += [(narrow, top), (0, top - 0.02)]
    belly = rng.uniform(0.2, 0.4)
    foot = [(0, 0), (0.45, 0), (0.45, 0.1), (0.1, 0.12), (belly, 0.25), (belly, 0.6), (0.07, 0.75), (0.05, stem + 0.4)]
    return _shape(body=lathe(shade), accent=lathe([*foot, (0, stem + 0.4)]), revolved=True)


def _mug(rng: np.random.Generator) -> Shape:
    foot, rim, height = rng.uniform(0.5, 0.7), rng.uniform(0.58, 0.72), rng.uniform(1.05, 1.5)
    cup = [(0, 0), (foot, 0), (foot, 0.06), (rim, height * 0.5), (rim, height), (rim, height)]
    cup += [(rim - 0.09, height), (rim - 0.09, height), (rim - 0.09, height * 0.5), (foot - 0.09, 0.12), (0, 0.12)]
    ring = torus((rim + 0.02, height * 0.52, 0), height * 0.28, 0.085, axis=2)
    handle = without(ring, cylinder((0, height / 2, 0), rim - 0.05, height))
    return _shape(body=lathe(cup), accent=handle, revolved=True)


def _mushroom(rng: np.random.Generator) -> Shape:
    wide, stem, dome = rng.uniform(0.75, 0.95), rng.uniform(0.85, 1.15), rng.uniform(0.55, 0.85)
    cap = [(0, stem), (wide * 0.6, stem - 0.02), (wide, stem - 0.1), (wide * 1.08, stem + 0.1)]
    cap += [(wide * 0.85, stem + dome * 0.8), (wide * 0.4, stem + dome), (0, stem + dome)]
    stalk = [(0, 0), (0.36, 0), (0.46, 0.15), (0.26, 0.5), (0.24, stem + 0.1), (0, stem + 0.1)]
    return _shape(body=lathe(cap), trim=lathe(stalk), revolved=True)


def _ring(rng: np.random.Generator) -> Shape:
    radius, tube, size = rng.uniform(0.66, 0.78), rng.uniform(0.09, 0.14), rng.uniform(0.9, 1.15)
    top = 2 * (radius + tube)
    gem = [(0, -0.1), (0.4 * size, 0.3), (0.4 * size, 0.3), (0.26 * size, 0.45), (0.26 * size, 0.45), (0, 0.45)]
    hoop = turned(moved(torus((0, 0, 0), radius, tube, axis=2), (0, radius + tube, 0)), rng.uniform(-25, 25))
    claws = repeated(stick((0.08, top - tube, 0), (0.36 * size, top + 0.3, 0), 0.07, 0.04), 4)
    return _shape(body=hoop, accent=moved(lathe(gem), (0, top, 0)), trim=turned(claws, 45))


def _rocket(rng: np.random.Generator) -> Shape:
    belly, height = rng.uniform(0.4, 0.52), rng.uniform(1.9, 2.3)
    hull = [
        (0, 0.35),
        (belly * 0.7, 0.35),
        (belly * 0.7, 0.35),
        (belly * 1.1, height * 0.4),
        (belly * 0.95, height * 0.7),
    ]
    hull += [(belly * 0.3, height), (0, height + 0.1)]
    blade = box((0.45, 0.45, 0), (0.2, 0.2, 0.035), 0.03)
    fins = repeated(union(stick((0.25, 0.75, 0), (0.78, 0.06, 0), 0.05, 0.05), blade), 4)
    window = torus((0, height * 0.62, belly), belly * 0.4, 0.06, axis=2)
    pane = sphere((0, height * 0.62, belly * 0.62), belly * 0.42)
    return _shape(body=lathe(hull), accent=union(turned(fins, 45), window), trim=pane, revolved=True)


def _table(rng: np.random.Generator) -> Shape:
    width, depth, height = rng.uniform(0.85, 1.15), rng.uniform(0.55, 0.75), rng.uniform(0.85, 1.15)
    foot = rng.uniform(0, 0.12)
    leg = stick(
        (width - 0.12 + foot, 0.05, depth - 0.12 + foot), (width - 0.16, height - 0.1, depth - 0.16), 0.05, 0.09
    )
    board = box((0, height, 0), (width, 0.08, depth), 0.05)
    apron = box((0, height - 0.14, 0), (width - 0.15, 0.09, depth - 0.15))
    return _shape(body=board, accent=union(mirrored(leg, deep=True), apron))


def _teapot(rng: np.random.Generator) -> Shape:
    belly, height = rng.uniform(0.68, 0.8), rng.uniform(0.95, 1.15)
    pot = [(0, 0), (belly * 0.6, 0), (belly * 0.6, 0.03), (belly * 1.15, height * 0.35), (belly * 0.95, height * 0.85)]
    pot += [(belly * 0.45, height), (0, height)]
    cover = [(0, height - 0.05), (belly * 0.55, height - 0.06), (belly * 0.5, height + 0.08), (0.1, height + 0.14)]
    cover += [(0.05, height + 0.2), (0.16, height + 0.28), (0.1, height + 0.38), (0, height + 0.38)]
    spout = stick((-belly * 0.75, height * 0.3, 0), (-belly - 0.48, height * 0.9, 0), 0.22, 0.09)
    ring = torus((belly + 0.08, height * 0.53, 0), height * 0.31, 0.08, axis=2)
    handle = without(ring, cylinder((0, height / 2, 0), belly * 0.85, height))
    return _shape(body=union(lathe(pot), spout), accent=union(lathe(cover), handle), revolved=True)


SHAPES: dict[str, Callable[[np.random.Generator], Shape]] = {
    "ball": _ball,
    "bottle": _bottle,
    "chair": _chair,
    "cone": _cone,
    "dumbbell": _dumbbell,
    "gift": _gift,
    "goblet": _goblet,
    "house": _house,
    "lamp": _lamp,
    "mug": _mug,
    "mushroom": _mushroom,
    "ring": _ring,
    "rocket": _rocket,
    "table": _table,
    "teapot": _teapot,
}
"""The shapes, by the name that pictures are tagged with."""
