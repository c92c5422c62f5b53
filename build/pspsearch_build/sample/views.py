"""How a thing is photographed: from where, in which light, against which background, and what hides it."""

from dataclasses import dataclass
from math import cos, radians, sin

import numpy as np

from pspsearch_build.sample.camera import Camera
from pspsearch_build.sample.fields import Field, box, cylinder, sphere, stick
from pspsearch_build.sample.paints import Colour, Paint, linear
from pspsearch_build.sample.points import point
from pspsearch_build.sample.scene import Backdrop, Body, Light, Scene
from pspsearch_build.sample.shapes import Role, Shape
from pspsearch_build.sample.textures import TEXTURES, Texture, plain, planks, plaster
from pspsearch_build.sample.things import Thing

VIEWS_PER_THING = 6
VIEWS_PER_PLACE = 2
"""How many pictures in a row share floor, wall and lamp, as if somebody took them and moved on."""

_FIELD_OF_VIEW_DEGREES = 32
_SWING_DEGREES = 32
"""How far to each side of a thing's front the camera goes."""

_FLOORS: tuple[tuple[str, Texture, float, Colour, Colour], ...] = (
    ("oak floor", planks, 0.6, (204, 178, 144), (160, 132, 100)),
    ("walnut floor", planks, 0.55, (146, 118, 96), (108, 86, 70)),
    ("tiles", TEXTURES["checker"], 1.1, (204, 202, 196), (182, 184, 182)),
    ("concrete", plaster, 0.6, (172, 170, 164), (146, 144, 140)),
    ("cloth", TEXTURES["plaid"], 0.4, (214, 206, 192), (198, 186, 170)),
    ("carpet", plaster, 0.08, (148, 156, 162), (118, 126, 136)),
    ("lawn", plaster, 0.1, (146, 158, 116), (114, 130, 88)),
    ("paper", plain, 1, (218, 216, 210), (218, 216, 210)),
)
_WALLS: tuple[tuple[Texture, float, Colour, Colour], ...] = (
    (plain, 1, (208, 206, 200), (0, 0, 0)),
    (plain, 1, (186, 198, 206), (0, 0, 0)),
    (plain, 1, (212, 198, 178), (0, 0, 0)),
    (plain, 1, (170, 174, 164), (0, 0, 0)),
    (plaster, 0.8, (206, 198, 188), (186, 180, 172)),
    (plaster, 1.5, (158, 168, 180), (138, 148, 164)),
    (TEXTURES["bands"], 0.5, (210, 206, 198), (198, 192, 186)),
    (TEXTURES["bricks"], 0.7, (186, 152, 138), (196, 186, 176)),
)
_LAMPS: tuple[tuple[str, Colour], ...] = (
    ("daylight", (255, 250, 242)),
    ("warm light", (255, 226, 186)),
    ("cool light", (224, 236, 255)),
)
_PROP_COLOURS: tuple[Colour, ...] = ((176, 70, 60), (70, 104, 150), (206, 174, 90), (96, 128, 92), (190, 190, 186))


@dataclass(frozen=True, slots=True)
class View:
    """One picture, ready to be taken."""

    scene: Scene
    camera: Camera
    rng: np.random.Generator
    """The random numbers for the grain."""
    tags: tuple[str, ...]


def set_up(thing: Thing, number: int) -> View:
    """The view with that number, from 1; always the same one."""
    rng = np.random.default_rng((*thing.seed, number))
    place = np.random.default_rng((*thing.seed, VIEWS_PER_THING + 1 + (number - 1) // VIEWS_PER_PLACE))
    floor_name, backdrop = _choose_backdrop(place)
    lamp_name, light = _choose_light(place)
    heading = radians(rng.uniform(-_SWING_DEGREES, _SWING_DEGREES))
    occluded = rng.random() < 0.3
    props = _choose_props(thing.body, heading, occluded, rng)
    camera = _choose_camera(
        thing.body, heading, 20 if occluded else 34, rng
    )  # from above, one looks past what stands in front
    tags = (floor_name, lamp_name, *(("occluded",) if occluded else ()))
    return View(Scene((thing.body, *props), backdrop, light), camera, rng, tags)


def _choose_camera(body: Body, heading: float, highest_degrees: float, rng: np.random.Generator) -> Camera:
    solid = body.solid
    distance = solid.radius / sin(radians(_FIELD_OF_VIEW_DEGREES / 2)) * rng.uniform(0.74, 0.98)
    height = radians(rng.uniform(12, highest_degrees))
    away = point(sin(heading) * cos(height), sin(height), cos(heading) * cos(height))
    aside = np.array(rng.uniform(-0.18, 0.18, (3, 1)), np.float32) * solid.radius
    return Camera(
        eye=solid.centre + away * distance,
        target=solid.centre + aside,
        roll=radians(rng.uniform(-5, 5)),
        field_of_view_degrees=_FIELD_OF_VIEW_DEGREES,
        exposure=rng.uniform(0.95, 1.3),
        blur_px=rng.uniform(0.35, 0.7),
        grain=rng.uniform(0.5, 3.5),
        jpeg_quality=int(rng.integers(82, 94)),
    )


def _choose_backdrop(rng: np.random.Generator) -> tuple[str, Backdrop]:
    name, texture, cell, first, second = _FLOORS[rng.integers(len(_FLOORS))]
    floor = Paint(first, second, texture, cell, 0.25 if name in {"oak floor", "walnut floor", "tiles"} else 0)
    texture, cell, first, second = _WALLS[rng.integers(len(_WALLS))]
    towards = radians(rng.uniform(-15, 15))
    facing = point(sin(towards), 0, cos(towards))
    return name, Backdrop(
        floor, rng.uniform(0, 180), Paint(first, second, texture, cell), facing, rng.uniform(1.8, 4.5)
    )


def _choose_light(rng: np.random.Generator) -> tuple[str, Light]:
    name, colour = _LAMPS[rng.integers(len(_LAMPS))]
    side = radians(rng.uniform(20, 75)) * _choose_side(rng)
    height = radians(rng.uniform(35, 65))
    direction = point(sin(side) * cos(height), sin(height), cos(side) * cos(height))
    lamp = linear(colour) * np.float32(rng.uniform(1.5, 2.1))
    room = linear((226, 234, 246)) * np.float32(rng.uniform(0.5, 0.8))
    return name, Light(direction, lamp, room, rng.uniform(0.05, 0.16))


def _choose_props(body: Body, heading: float, occluded: bool, rng: np.random.Generator) -> list[Body]:
    """Plain things that are also in the picture; if the thing is occluded, one stands close in front of it."""
    radius, half = body.solid.radius, (body.solid.high - body.solid.low)[:, 0] / 2
    props: list[Body] = []
    if occluded:
        wide, tall, deep = half.tolist()
        size = 0.05 + tall * rng.uniform(0.42, 0.54)
        aside = (0.25 * wide + size * rng.uniform(0.4, 0.8)) * _choose_side(rng)
        ahead = wide * abs(sin(heading)) + deep * cos(heading) + 0.6 * size
        props.append(_make_prop(size, heading, ahead, aside, rng))
    if rng.random() < 0.45:
        ahead, aside = -radius * rng.uniform(0.3, 1.0), radius * rng.uniform(1.3, 1.6) * _choose_side(rng)
        props.append(_make_prop(radius * rng.uniform(0.2, 0.32), heading, ahead, aside, rng))
    return props


def _choose_side(rng: np.random.Generator) -> int:
    """Right or left."""
    return 1 if rng.random() < 0.5 else -1


def _make_prop(size: float, heading: float, ahead: float, aside: float, rng: np.random.Generator) -> Body:
    """A prop, `ahead` of the thing towards the camera and `aside` to its right."""
    spot = (sin(heading) * ahead + cos(heading) * aside, 0, cos(heading) * ahead - sin(heading) * aside)
    colour = _PROP_COLOURS[rng.integers(len(_PROP_COLOURS))]
    paint = Paint(colour, colour, plain, gloss=rng.uniform(0, 0.6))
    return Body(Shape(((Role.BODY, _prop_field(size, rng)),), round=False), (paint,), spot)


def _prop_field(size: float, rng: np.random.Generator) -> Field:
    kinds = (
        sphere((0, size, 0), size),
        box((0, size, 0), (size * 0.8, size, size * 0.8), 0.04),
        cylinder((0, size * 1.2, 0), size * 0.7, size * 1.2),
        stick((0, size * 0.6, 0), (0, size * 2, 0), size * 0.6, size * 0.3),
    )
    return kinds[rng.integers(len(kinds))]
