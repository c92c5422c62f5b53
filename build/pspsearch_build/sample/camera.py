"""Photographs a scene."""

from dataclasses import dataclass
from io import BytesIO
from math import radians, tan

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from pspsearch_build.sample.points import Points, Scalars, pick, point, put, unit
from pspsearch_build.sample.scene import Scene
from pspsearch_build.sample.tracing import Rays

SIDE_PX = 224
"""The width and the height of a picture of the gallery."""

_EDGE = 0.1
"""The difference between neighbouring pixels, on a scale of 1, from which a pixel is sampled again."""
_SUBPIXELS = (-0.33, 0.33)
"""Where a pixel is sampled again, right and down from its middle, in px."""
_BLOCK_PX = 4
"""The side of a block of pixels that goes most of the way to a solid together."""


@dataclass(frozen=True, slots=True)
class Camera:
    """Where the camera stands, where it looks, and what it does to the light."""

    eye: Points
    target: Points
    roll: float
    """In radians."""
    field_of_view_degrees: float
    exposure: float
    blur_px: float
    grain: float
    """The standard deviation of the noise, on a scale of 255."""
    jpeg_quality: int
    side_px: int = SIDE_PX
    """The width and the height of the picture, a multiple of 4."""

    @property
    def reach(self) -> float:
        """The width of a pixel at distance 1."""
        return tan(radians(self.field_of_view_degrees) / 2) / (self.side_px / 2)

    def rays(self, across: Scalars, down: Scalars) -> Rays:
        """The lines of sight through places on the picture, in px from its upper left corner."""
        ahead = unit(self.target - self.eye)
        right = unit(np.cross(ahead, point(0, 1, 0), axis=0))
        up = np.cross(right, ahead, axis=0)
        cosine, sine = np.float32(np.cos(self.roll)), np.float32(np.sin(self.roll))
        right, up = right * cosine + up * sine, up * cosine - right * sine
        x, y = (across - self.side_px / 2) * self.reach, (self.side_px / 2 - down) * self.reach
        return Rays(self.eye, unit(ahead + right * x + up * y))


def photograph(scene: Scene, camera: Camera, rng: np.random.Generator) -> bytes:
    """A JPEG of what the camera sees."""
    return _encode(_develop(_expose(scene, camera), camera, rng), camera)


def _expose(scene: Scene, camera: Camera) -> Points:
    """sRGB in [0, 1], (3, pixels); samples a pixel more than once where the picture changes."""
    down, across = (axis.ravel().astype(np.float32) + 0.5 for axis in np.mgrid[: camera.side_px, : camera.side_px])
    starts = _approach(scene, camera)
    seen = _tone(scene.look(camera.rays(across, down), starts), camera.exposure)
    edges = _find_edges(seen, camera.side_px)
    rays = camera.rays(*(np.concatenate([axis[edges] + by for by in _SUBPIXELS]) for axis in (across, down)))
    again = _tone(scene.look(rays, [np.tile(own[edges], len(_SUBPIXELS)) for own in starts]), camera.exposure)
    looks = [pick(seen, edges), *np.split(again, len(_SUBPIXELS), axis=1)]
    put(seen, edges, np.mean(looks, axis=0))
    return seen


def _approach(scene: Scene, camera: Camera) -> list[Scalars]:
    """For each body, how far the ray of each pixel can safely go at once."""
    blocks = camera.side_px // _BLOCK_PX
    down, across = ((axis.ravel().astype(np.float32) + 0.5) * _BLOCK_PX for axis in np.mgrid[:blocks, :blocks])
    spread = 0.75 * _BLOCK_PX * camera.reach
    starts = scene.approach(camera.rays(across, down), spread)
    return [own.reshape(blocks, blocks).repeat(_BLOCK_PX, 0).repeat(_BLOCK_PX, 1).ravel() for own in starts]


def _tone(light: Points, exposure: float) -> Points:
    """Maps light to sRGB, compressing bright light towards 1 instead of cutting it off."""
    return (1 - np.exp(-light * np.float32(exposure))) ** np.float32(1 / 2.2)


def _find_edges(seen: Points, side_px: int) -> NDArray[np.intp]:
    """The numbers of the pixels that differ much from a neighbour."""
    picture = seen.reshape(3, side_px, side_px)
    edges = np.zeros((side_px, side_px), bool)
    beside = np.abs(np.diff(picture, axis=2)).max(axis=0) > _EDGE
    below = np.abs(np.diff(picture, axis=1)).max(axis=0) > _EDGE
    edges[:, 1:] |= beside
    edges[:, :-1] |= beside
    edges[1:] |= below
    edges[:-1] |= below
    return np.flatnonzero(edges)


def _develop(seen: Points, camera: Camera, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Adds the blur of the lens and the grain of the sensor."""
    levels = seen.T.reshape(camera.side_px, camera.side_px, 3) * 255
    sharp = Image.fromarray(np.clip(levels + 0.5, 0, 255).astype(np.uint8))
    soft = np.asarray(sharp.filter(ImageFilter.GaussianBlur(camera.blur_px)), np.float32)
    grainy = soft + rng.standard_normal(soft.shape, np.float32) * camera.grain
    return np.clip(grainy + 0.5, 0, 255).astype(np.uint8)


def _encode(pixels: NDArray[np.uint8], camera: Camera) -> bytes:
    encoded = BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG", quality=camera.jpeg_quality)
    return encoded.getvalue()
