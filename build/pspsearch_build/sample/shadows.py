"""The shadow that a solid casts on the floor, computed once for a scene and then looked up."""

import numpy as np

from pspsearch_build.sample.points import Points
from pspsearch_build.sample.sheets import Sheet
from pspsearch_build.sample.tracing import Rays, Solid, light_share, shadow_margin

_CELL = 0.04
_LIFT = 0.005


def cast_on_floor(solid: Solid, towards_light: Points, softness: float) -> Sheet:
    """How much of the light reaches the floor (y = 0), from 0 to 1, by x and z; 1 beyond the sheet."""
    slide = -towards_light / towards_light[1] * solid.high[1]
    margin = shadow_margin(solid, softness) + _CELL
    low = (np.minimum(solid.low, solid.low + slide) - margin)[:, 0]
    high = (np.maximum(solid.high, solid.high + slide) + margin)[:, 0]
    x, z = np.meshgrid(*(np.arange(low[axis], high[axis], _CELL, np.float32) for axis in (0, 2)))
    floor = np.stack([x.ravel(), np.full(x.size, _LIFT, np.float32), z.ravel()])
    shares = light_share(solid, Rays(floor, np.broadcast_to(towards_light, floor.shape)), softness)
    return Sheet(shares.reshape(x.shape), _CELL, float(low[0]), float(low[2]))
