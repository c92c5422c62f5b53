"""Draws six things of the sample gallery in one room: the picture in which README searches for one of them.

python build/recipes/draw_scene.py docs/scene.jpg
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from pspsearch_build.sample.camera import Camera, photograph
from pspsearch_build.sample.paints import Paint, linear
from pspsearch_build.sample.points import point, unit
from pspsearch_build.sample.scene import Backdrop, Light, Scene
from pspsearch_build.sample.textures import planks, plaster
from pspsearch_build.sample.things import make_things

SPOTS = {
    "house-02": (-3.0, 0, -3.4),
    "lamp-03": (0.6, 0, -3.2),
    "chair-01": (3.5, 0, -3.6),
    "ball-03": (-2.1, 0, 2.0),
    "teapot-01": (0.4, 0, 1.2),
    "rocket-02": (2.5, 0, 1.6),
}
"""Where the things stand: to the right, up, and towards the camera."""


def draw_scene() -> bytes:
    """A JPEG of 640 x 640 px."""
    things = {thing.id: thing for thing in make_things()}
    bodies = [replace(things[id_].body, spot=spot) for id_, spot in SPOTS.items()]
    floor = Paint((204, 178, 144), (160, 132, 100), planks, 0.6, 0.25)
    wall = Paint((206, 198, 188), (186, 180, 172), plaster, 0.8)
    backdrop = Backdrop(floor, 20, wall, point(0, 0, 1), 6)
    light = Light(
        unit(point(-0.5, 0.9, 0.6)),
        linear((255, 250, 242)) * np.float32(1.8),
        linear((226, 234, 246)) * np.float32(0.65),
        0.1,
    )
    camera = Camera(
        eye=point(0, 4.6, 13),
        target=point(0, 1.0, 0),
        roll=0,
        field_of_view_degrees=31,
        exposure=1.1,
        blur_px=0.5,
        grain=2,
        jpeg_quality=88,
        side_px=640,
    )
    return photograph(Scene(bodies, backdrop, light), camera, np.random.default_rng(0))


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(draw_scene())
