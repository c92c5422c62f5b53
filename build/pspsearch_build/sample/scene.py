"""A thing on a floor in front of a wall, lit by a lamp and by the room."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pspsearch_build.sample.fields import Spot
from pspsearch_build.sample.paints import Paint, lay, lay_flat, linear, wrap
from pspsearch_build.sample.points import Points, Scalars, dot, pick, point, put, smoothstep, unit
from pspsearch_build.sample.shadows import cast_on_floor
from pspsearch_build.sample.shapes import Shape
from pspsearch_build.sample.sheets import Sheet
from pspsearch_build.sample.textures import Place
from pspsearch_build.sample.tracing import Rays, Solid, approach, light_share, normals, openness, trace

_LIFT = 0.01
"""How far a ray starts off its surface, so that a point does not shade itself."""


@dataclass(frozen=True, slots=True)
class Light:
    """A distant lamp, and the light that the room reflects."""

    direction: Points
    """The unit direction towards the lamp, (3, 1)."""
    colour: Points
    """The lamp's light, (3, 1)."""
    room: Points
    """The light that comes from all directions, (3, 1)."""
    softness: float
    """The width of the lamp, as seen from the thing."""


@dataclass(frozen=True)
class Body:
    """A shape, and the paint for each of its roles."""

    shape: Shape
    paints: Sequence[Paint]
    """The paints, indexed by role."""
    spot: Spot = (0, 0, 0)
    """Where the body stands."""

    @cached_property
    def solid(self) -> Solid:
        """The whole body, where it stands."""
        return Solid.of(*(part for _, part in self.shape.parts)).moved(self.spot)

    def roles(self, points: Points) -> NDArray[np.intp]:
        """Which role is on the surface at each point."""
        local = points - point(*self.spot)
        nearest = np.argmin(np.stack([part(local) for _, part in self.shape.parts]), axis=0)
        return np.array([int(role) for role, _ in self.shape.parts])[nearest]

    def place(self, points: Points, facing: Points, paint: Paint) -> Place:
        """Where the points are on the pattern."""
        return (wrap if self.shape.round else lay)(points - point(*self.spot), facing, paint.cell)


@dataclass(frozen=True, slots=True)
class Backdrop:
    """The floor (y = 0) and the wall behind."""

    floor: Paint
    floor_degrees: float
    wall: Paint
    wall_facing: Points
    """A level unit direction, (3, 1)."""
    wall_distance: float
    """How far the wall is behind the origin."""


@dataclass(frozen=True, slots=True)
class _Surface:
    """What rays hit, one column for each ray."""

    points: Points
    facing: Points
    albedo: Points
    gloss: Scalars


@dataclass(frozen=True)
class Scene:
    """Everything that the camera can see."""

    bodies: Sequence[Body]
    """The thing, and what stands around it."""
    backdrop: Backdrop
    light: Light

    @cached_property
    def _shadows(self) -> list[Sheet]:
        light = self.light
        return [cast_on_floor(body.solid, light.direction, light.softness) for body in self.bodies]

    def approach(self, rays: Rays, spread: float) -> list[Scalars]:
        """For each body, how far bundles of rays, `spread` wide at distance 1, can go before they may meet it."""
        return [approach(body.solid, rays, spread) for body in self.bodies]

    def look(self, rays: Rays, starts: Sequence[Scalars]) -> Points:
        """The light that comes back along each ray, (3, count), linear and without an upper bound.

        For each body, `starts` says where along each ray the search may begin; infinite if the ray misses the body.
        """
        surface = self._hit(rays, starts)
        up = surface.facing[1]
        open_to_room, lit = self._open(surface), self._lit(surface)
        sun = self.light.colour * (np.maximum(dot(surface.facing, self.light.direction), 0) * lit)
        room = self.light.room * ((0.7 + 0.3 * up) * open_to_room)
        glow = linear(self.backdrop.floor.first) * self.light.colour * (0.16 * (1 - up) * open_to_room)
        return surface.albedo * (sun + room + glow) + self._shine(surface, rays, lit, open_to_room)

    def _hit(self, rays: Rays, starts: Sequence[Scalars]) -> _Surface:
        distances, surface = self._hit_backdrop(rays)
        for body, own_starts in zip(self.bodies, starts, strict=True):
            hits = trace(body.solid, rays, own_starts)
            chosen = np.flatnonzero(hits < distances)
            if not chosen.size:
                continue
            distances[chosen] = hits[chosen]
            points = rays.take(chosen).at(hits[chosen])
            facing = normals(body.solid.field, points)
            put(surface.points, chosen, points)
            put(surface.facing, chosen, facing)
            roles = body.roles(points)
            for role, paint in enumerate(body.paints):
                own = np.flatnonzero(roles == role)
                place = body.place(pick(points, own), pick(facing, own), paint)
                put(surface.albedo, chosen[own], paint.mix(place))
                surface.gloss[chosen[own]] = paint.gloss
        return surface

    def _hit_backdrop(self, rays: Rays) -> tuple[Scalars, _Surface]:
        """The distance to the floor or the wall, whichever comes first, and the surface there."""
        backdrop = self.backdrop
        down = np.minimum(rays.directions[1], -1e-6)
        to_floor = -rays.origins[1] / down
        towards = np.minimum(dot(rays.directions, backdrop.wall_facing), -1e-6)
        to_wall = -(dot(rays.origins, backdrop.wall_facing) + backdrop.wall_distance) / towards
        on_floor = to_floor < to_wall
        floor, wall = np.flatnonzero(on_floor), np.flatnonzero(~on_floor)
        distances = np.minimum(to_floor, to_wall)
        points = rays.at(distances)
        facing = np.where(on_floor, np.array([[0], [1], [0]], np.float32), backdrop.wall_facing)
        albedo = np.empty_like(points)
        x, _, z = pick(points, floor)
        put(albedo, floor, backdrop.floor.mix(lay_flat(x, z, backdrop.floor_degrees, backdrop.floor.cell)))
        x, y, z = pick(points, wall)
        along = x * backdrop.wall_facing[2] - z * backdrop.wall_facing[0]
        put(albedo, wall, backdrop.wall.mix(lay_flat(along, y, 0, backdrop.wall.cell)))
        gloss = np.where(on_floor, backdrop.floor.gloss, backdrop.wall.gloss).astype(np.float32)
        return distances, _Surface(points, facing, albedo, gloss)

    def _lit(self, surface: _Surface) -> Scalars:
        """How much of the lamp reaches each point."""
        shares = np.zeros(surface.points.shape[1], np.float32)
        low = surface.points[1] < _LIFT
        on_floor = np.flatnonzero(low)
        rest = np.flatnonzero(~low & (dot(surface.facing, self.light.direction) > 0))
        starts = pick(surface.points, rest) + pick(surface.facing, rest) * _LIFT
        rays = Rays(starts, np.broadcast_to(self.light.direction, starts.shape))
        shares[rest], shares[on_floor] = 1, 1
        for body, shadow in zip(self.bodies, self._shadows, strict=True):
            shares[rest] *= light_share(body.solid, rays, self.light.softness)
            shares[on_floor] *= shadow.read(surface.points[0, on_floor], surface.points[2, on_floor])
        return shares

    def _open(self, surface: _Surface) -> Scalars:
        """How much of the room each point sees."""
        shares = 0.55 + 0.45 * np.clip(surface.points[1] / 0.5, 0, 1)  # the floor darkens what is low
        shares = np.where(surface.facing[1] > 0.99, 1, shares).astype(np.float32)
        for body in self.bodies:
            shares *= openness(body.solid, surface.points, surface.facing)
        return shares

    def _shine(self, surface: _Surface, rays: Rays, lit: Scalars, open_to_room: Scalars) -> Points:
        """The highlight of the lamp, and the reflection of the room in the glaze."""
        mirrored = rays.directions - surface.facing * (2 * dot(rays.directions, surface.facing))
        half = unit(self.light.direction - rays.directions)
        sharp = np.maximum(dot(surface.facing, half), 0) ** (12 + 90 * surface.gloss)
        grazing = np.clip(1 + dot(rays.directions, surface.facing), 0, 1) ** 5
        ceiling = 0.25 + 0.75 * smoothstep(-0.2, 0.7, mirrored[1])
        room = self.light.room * (ceiling * (0.05 + 0.6 * grazing) * open_to_room * surface.gloss)
        return self.light.colour * (sharp * lit * surface.gloss * 0.7) + room
