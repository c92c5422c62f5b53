"""Finds where rays meet solids, by sphere tracing."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from pspsearch_build.sample.fields import Field, Spot, moved, union
from pspsearch_build.sample.points import Numbers, Points, Scalars, dot, length, pick, point, unit

_STEPS = 36
_SHADOW_STEPS = 24
_TOUCH = 0.005
_THIN = 0.03
"""Half the thickness of the thinnest wall."""
_NEAR_MISS = 0.015
_CORNERS = (0.12, 0.45)
"""The distances from a surface at which other surfaces darken it."""
_PROBE_CELL = 0.16
_PROBE_REACH = 2.0


@dataclass(frozen=True, slots=True)
class Rays:
    """Lines of sight or of light, each with a direction of unit length."""

    origins: Points
    """(3, count), or (3, 1) if all start at one point."""
    directions: Points

    def at(self, distances: Scalars) -> Points:
        """The point on each ray at its distance."""
        return self.origins + self.directions * distances

    def take(self, chosen: Numbers) -> Self:
        """Some of the rays."""
        origins = self.origins if self.origins.shape[1] == 1 else pick(self.origins, chosen)
        return type(self)(origins, pick(self.directions, chosen))


@dataclass(frozen=True, slots=True)
class Solid:
    """A field with a box around it; most rays miss the box and cost nothing."""

    field: Field
    low: Points
    """The corner of the box with the lowest coordinates, (3, 1)."""
    high: Points

    @classmethod
    def of(cls, *fields: Field) -> "Solid":
        """The union of the fields, which must be within 2 units of the y axis and at most 4 high."""
        field = union(*fields)
        ticks = np.arange(-_PROBE_REACH, _PROBE_REACH, _PROBE_CELL, np.float32)
        grid = np.stack(np.meshgrid(ticks, ticks + _PROBE_REACH, ticks)).reshape(3, -1)
        solid = grid[:, field(grid) < 1.25 * _PROBE_CELL]  # a node just beyond the outermost point is no farther away
        return cls(field, solid.min(axis=1, keepdims=True), solid.max(axis=1, keepdims=True))

    @property
    def centre(self) -> Points:
        """The centre of the box."""
        return (self.low + self.high) / 2

    @property
    def radius(self) -> float:
        """The distance from the centre to a corner."""
        return float(length(self.high - self.low)[0]) / 2

    def moved(self, by: Spot) -> "Solid":
        """The same solid at another place."""
        return Solid(moved(self.field, by), self.low + point(*by), self.high + point(*by))

    def span(self, rays: Rays, slack: float) -> tuple[Numbers, Scalars, Scalars]:
        """The rays that pass through the box, widened by `slack`, and where each enters and leaves it."""
        steep = np.where(np.abs(rays.directions) < 1e-9, 1e-9, rays.directions)
        to_low, to_high = (self.low - slack - rays.origins) / steep, (self.high + slack - rays.origins) / steep
        first, last = np.minimum(to_low, to_high), np.maximum(to_low, to_high)
        enters = np.maximum(np.maximum(np.maximum(first[0], first[1]), first[2]), 0)
        leaves = np.minimum(np.minimum(last[0], last[1]), last[2])
        chosen = np.flatnonzero(enters < leaves)
        return chosen, enters[chosen], leaves[chosen]

    def near(self, points: Points, reach: float) -> Numbers:
        """The numbers of the points in the box or within `reach` of it."""
        x, y, z = (points > self.low - reach) & (points < self.high + reach)
        return np.flatnonzero(x & y & z)


def approach(solid: Solid, rays: Rays, spread: float) -> Scalars:
    """How far along each ray the solid stays more than `spread` times the distance away; infinite if it always does.

    So bundles of rays go most of their way together.
    """
    starts = np.full(rays.directions.shape[1], np.inf, np.float32)
    chosen, travelled, ends = solid.span(rays, slack=spread * float(length(solid.centre - rays.origins).max()))
    active = rays.take(chosen)
    for _ in range(_STEPS):
        if not chosen.size:
            return starts
        room = solid.field(active.at(travelled)) - spread * travelled
        close = room < 0.5 * spread * travelled
        starts[chosen[close]] = travelled[close]
        travelled = travelled + room
        going = np.flatnonzero(~close & (travelled < ends))
        chosen, travelled, ends, active = chosen[going], travelled[going], ends[going], active.take(going)
    starts[chosen] = travelled
    return starts


def _step(distances: Scalars) -> Scalars:
    """A step longer than is surely free, but through no wall: a ray that went too far inside comes back."""
    return np.minimum(distances * 1.25, distances + _THIN)


def trace(solid: Solid, rays: Rays, starts: Scalars) -> Scalars:
    """How far along each ray, from its start on, the solid begins; infinite if the ray misses or has no start."""
    hits = np.full(rays.directions.shape[1], np.inf, np.float32)
    chosen = np.flatnonzero(np.isfinite(starts))
    travelled, active = starts[chosen], rays.take(chosen)
    ends = dot(solid.centre - rays.origins, active.directions) + solid.radius
    for _ in range(_STEPS):
        if not chosen.size:
            return hits
        distances = solid.field(active.at(travelled))
        touching = distances < _TOUCH
        hits[chosen[touching]] = (travelled + distances)[touching]
        travelled = travelled + _step(distances)
        going = np.flatnonzero(~touching & (travelled < ends))
        chosen, travelled, ends, active = chosen[going], travelled[going], ends[going], active.take(going)
    close = solid.field(active.at(travelled)) < _NEAR_MISS
    hits[chosen[close]] = travelled[close]
    return hits


def shadow_margin(solid: Solid, softness: float) -> float:
    """How far the half-shadow reaches beyond the shadow of the solid's box, with the light at 30 degrees or higher."""
    return 2 * softness * solid.radius


def light_share(solid: Solid, rays: Rays, softness: float) -> Scalars:
    """How much of a light passes the solid along each ray, from 0 to 1; `softness` is its width at distance 1."""
    shares = np.ones(rays.directions.shape[1], np.float32)
    chosen, travelled, ends = solid.span(rays, shadow_margin(solid, softness))
    active = rays.take(chosen)
    travelled: Scalars = np.maximum(travelled, 0.03)
    for _ in range(_SHADOW_STEPS):
        if not chosen.size:
            break
        distances = solid.field(active.at(travelled))
        shares[chosen] = np.minimum(shares[chosen], np.clip(0.5 + distances / (softness * travelled), 0, 1))
        travelled += np.maximum(_step(distances), 0.04)
        going = np.flatnonzero((travelled < ends) & (shares[chosen] > 0.01))
        chosen, travelled, ends, active = chosen[going], travelled[going], ends[going], active.take(going)
    return shares * shares * (3 - 2 * shares)


def normals(field: Field, points: Points) -> Points:
    """The direction that the surface faces at each point on it."""
    step = 0.012
    total = np.zeros_like(points)
    for corner in ((1, -1, -1), (-1, -1, 1), (-1, 1, -1), (1, 1, 1)):
        offset = np.array(corner, np.float32)[:, None]
        total += offset * field(points + offset * step)
    return unit(total)


def openness(solid: Solid, points: Points, facing: Points) -> Scalars:
    """How open the surface is at each point: 1 in the open, towards 0 in a corner."""
    shares = np.ones(points.shape[1], np.float32)
    for reach in _CORNERS:
        ahead = points + facing * reach
        near = solid.near(ahead, reach)
        shares[near] *= 0.45 + 0.55 * np.clip(solid.field(pick(ahead, near)) / reach, 0, 1)
    return shares
