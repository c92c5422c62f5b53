"""The geometry of the sample gallery: fields, solids of revolution, rays, shadows, textures."""

import numpy as np
import pytest

from pspsearch_build.sample.fields import (
    Field,
    Spot,
    box,
    cylinder,
    mirrored,
    moved,
    repeated,
    sphere,
    stick,
    torus,
    turned,
)
from pspsearch_build.sample.lathe import lathe
from pspsearch_build.sample.points import Points, length, point, unit
from pspsearch_build.sample.shadows import cast_on_floor
from pspsearch_build.sample.shapes import SHAPES
from pspsearch_build.sample.textures import TEXTURES, Place, noise
from pspsearch_build.sample.tracing import Rays, Solid, approach, light_share, normals, trace

ROUNDING = 1e-5
"""float32's rounding at coordinates of a few units."""


def scatter(count: int, seed: int = 0) -> Points:
    """Random points around where the shapes stand."""
    return np.random.default_rng(seed).uniform([[-2], [-0.5], [-2]], [[2], [3.5], [2]], (3, count)).astype(np.float32)


@pytest.mark.parametrize(
    ("field", "spot", "distance"),
    [
        (sphere((0, 1, 0), 1), (3, 1, 0), 2),
        (sphere((0, 1, 0), 1), (0, 1, 0), -1),
        (box((0, 1, 0), (1, 1, 0.5)), (0, 1, 2), 1.5),
        (box((0, 1, 0), (1, 1, 0.5)), (0, 1, 0), -0.5),
        (box((0, 0, 0), (1, 1, 1), rounding=0), (4, 5, 1), 5),
        (cylinder((0, 1, 0), 0.5, 1), (2, 1, 0), 1.5),
        (cylinder((0, 1, 0), 0.5, 1), (0, 4, 0), 2),
        (cylinder((0, 0, 0), 0.5, 1, axis=0), (3, 0, 0), 2),
        (torus((0, 0, 0), 1, 0.25), (2, 0, 0), 0.75),
        (torus((0, 0, 0), 1, 0.25), (0, 0, 0), 0.75),
        (torus((0, 0, 0), 1, 0.25, axis=2), (0, 2, 0), 0.75),
        (stick((0, 0, 0), (0, 2, 0), 0.5, 0.5), (2, 1, 0), 1.5),
        (stick((0, 0, 0), (0, 2, 0), 0.5, 0.25), (0, 3, 0), 0.75),
        (moved(sphere((0, 0, 0), 1), (1, 2, 3)), (1, 2, 5), 1),
        (mirrored(sphere((1, 0, 0), 0.5)), (-3, 0, 0), 1.5),
        (mirrored(sphere((1, 0, 1), 0.5), deep=True), (-1, 0, -3), 1.5),
        (repeated(sphere((1, 0, 0), 0.5), 4), (0, 0, -3), 1.5),
        (turned(sphere((1, 0, 0), 0.5), 90, axis=2), (0, 3, 0), 1.5),
    ],
)
def test_field_tells_the_distance(field: Field, spot: Spot, distance: float) -> None:
    """The distance is positive outside, negative inside."""
    assert field(point(*spot))[0] == pytest.approx(distance, abs=ROUNDING)


def test_lathe_with_sharp_corners_makes_a_cylinder() -> None:
    """Near the solid it is exact to a fraction of the grid's cell, 0.0125; far away it is never too long."""
    turned_on_lathe = lathe([(0, 0), (0.6, 0), (0.6, 0), (0.6, 1.5), (0.6, 1.5), (0, 1.5)])
    points = scatter(5_000)
    expected = cylinder((0, 0.75, 0), 0.6, 0.75, rounding=0)(points)

    distances = turned_on_lathe(points)

    near = np.abs(expected) < 0.05
    assert near.sum() > 50
    assert np.abs(distances - expected)[near].max() < 0.0125
    assert np.all(distances < expected + 0.0125)


@pytest.mark.parametrize("shape", SHAPES)
def test_shape_stands_on_the_floor_within_its_box(shape: str) -> None:
    """Rays that miss the box are ignored, and nothing below the floor is seen."""
    parts = SHAPES[shape](np.random.default_rng(1)).parts
    solid = Solid.of(*(field for _, field in parts))
    points = scatter(20_000)

    inside = points[:, solid.field(points) < 0]

    assert inside.shape[1] > 20
    assert np.all((inside > solid.low) & (inside < solid.high))
    assert inside[1].min() > -0.02
    assert solid.field(solid.centre * point(1, 0, 1))[0] < 0.9  # it does not float


@pytest.mark.parametrize("shape", SHAPES)
def test_shape_promises_no_more_room_than_there_is(shape: str) -> None:
    """No field grows faster than the distance walked, but by a fifth if parts taper; else rays would pass through."""
    parts = SHAPES[shape](np.random.default_rng(2)).parts
    field = Solid.of(*(part for _, part in parts)).field
    points = scatter(5_000)
    steps = np.random.default_rng(3).normal(0, 0.05, points.shape).astype(np.float32)

    growth = (field(points + steps) - field(points)) / length(steps)

    assert np.quantile(growth, 0.999) < 1.2


def test_ray_meets_a_ball_where_geometry_says() -> None:
    """The rays hit straight, hit from the side, and miss; the tolerance is the tracer's own."""
    solid = Solid.of(sphere((0, 1, 0), 1))
    targets = np.array([[0, 0.6, 2], [1, 1, 1], [0, 0, 0]], np.float32)
    eye = point(0, 1, 5)
    rays = Rays(eye, unit(targets - eye))
    aside = np.array([0, 5 * 0.6 / np.hypot(5, 0.6)])
    along = np.sqrt(25 - aside**2) - np.sqrt(1 - aside**2)

    hits = trace(solid, rays, approach(solid, rays, 0.001))

    assert hits[:2] == pytest.approx(along, abs=0.01)
    assert np.isinf(hits[2])


def test_surface_of_a_ball_faces_outwards() -> None:
    """To a hundredth, because the slope is taken over a step of 0.012, as wide as a pixel."""
    outwards = unit(scatter(200))

    facing = normals(sphere((0, 0, 0), 1), outwards)

    assert np.abs(facing - outwards).max() < 0.01


def test_shadow_lies_away_from_the_light() -> None:
    """It is dark behind the ball, and bright in front of it and far away; the lookup agrees with the rays."""
    solid = Solid.of(sphere((0, 1, 0), 1))
    towards_light = unit(point(1, 1, 0))
    floor = np.array([[-1, 3, -9], [0, 0, 0], [0, 0, 0]], np.float32)

    shares = light_share(solid, Rays(floor, np.broadcast_to(towards_light, floor.shape)), 0.1)
    sheet = cast_on_floor(solid, towards_light, 0.1)

    assert shares == pytest.approx([0, 1, 1], abs=0.02)
    assert sheet.read(floor[0], floor[2]) == pytest.approx(shares, abs=0.02)


@pytest.mark.parametrize("name", TEXTURES)
def test_texture_mixes_two_colours(name: str) -> None:
    """Every pattern stays between its two colours, and shows both."""
    solid = scatter(4_000) * 3
    place = Place(solid[0], solid[1], solid)

    shares = TEXTURES[name](place)

    assert shares.shape == (4_000,)
    assert shares.min() >= 0
    assert shares.max() <= 1
    assert shares.std() > 0.15


def test_noise_is_smooth() -> None:
    """A small step makes a small difference, also from one cell of the lattice to the next."""
    points = scatter(5_000) * 8

    difference = noise(points + 0.001) - noise(points)

    assert np.abs(difference).max() < 0.01
