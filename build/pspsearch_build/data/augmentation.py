"""Augmentation for training: views of a picture from elsewhere, in another light, or partly hidden."""

import math

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from pspsearch.model.contract import InputShape
from pspsearch_build.data.masks import UNKNOWN, Mask
from pspsearch_build.errors import BuildError

Pixels = NDArray[np.uint8]
"""[height_px, width_px, 3], RGB."""

_Affine = tuple[float, float, float, float, float, float]
"""An affine map from places in the view to places in the picture, in Pillow's order."""

_LUMA = np.array([0.299, 0.587, 0.114])


class Augmentation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much views may differ. Values of 0, and of 1 for `least_area` and `aspect`, leave a picture as it is.

    Raises BuildError if a number is out of range.
    """

    least_area: float = 0.35
    """The smallest share of the picture that a view may show."""
    aspect: float = 1.3
    """How much wider or narrower than the picture a view may be."""
    flip: float = 0.5
    """The chance of mirroring."""
    rotation_degrees: float = 15.0
    """The largest rotation, either way."""
    brightness: float = 0.3
    """The largest relative change, up or down; contrast and saturation work the same way."""
    contrast: float = 0.3
    saturation: float = 0.4
    tint: float = 0.1
    """The largest relative change of each colour channel by itself, because lamps differ."""
    blur: float = 0.1
    """The chance of blurring."""
    shrink: float = 0.15
    """The chance that a view was small once, down to a quarter of its side, because pictures come in every size."""
    erase: float = 0.25
    """The chance that one colour covers a rectangle."""
    occlude: float = 0.15
    """The chance that another part of the picture covers a rectangle, as if something stood in front."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            least, most = _RANGES.get(name, (0.0, 1.0))
            if not least <= value <= most:  # written so that NaN fails
                raise BuildError(f"the augmentation's {name} is {value}, and must be from {least:g} to {most:g}")


_RANGES = {"least_area": (0.01, 1.0), "aspect": (1.0, 4.0), "rotation_degrees": (0.0, 180.0)}
_HIDDEN_SIDE = (0.15, 0.45)
"""The side of an erased or occluded rectangle, as a share of the view's side."""


def augment(pixels: Pixels, shape: InputShape, how: Augmentation, random: np.random.Generator) -> Pixels:
    """One view [height_px, width_px, 3] of a picture of any size; the same random numbers give the same view.

    The picture should be somewhat larger than the view, and fitted like the network's input.
    """
    nothing = np.full(pixels.shape[:2], UNKNOWN, np.uint8)
    return augment_with_mask(pixels, nothing, shape, how, random)[0]


def augment_with_mask(
    pixels: Pixels, mask: Mask, shape: InputShape, how: Augmentation, random: np.random.Generator
) -> tuple[Pixels, Mask]:
    """The same view of a picture and its mask, which must be as large. Pixels hidden in the view keep their class."""
    picture = Image.fromarray(pixels)
    move = _draw_move(picture, shape, how, random)
    size, affine = (shape.width_px, shape.height_px), Image.Transform.AFFINE
    moved = np.array(Image.fromarray(mask).transform(size, affine, move, Image.Resampling.NEAREST, fillcolor=UNKNOWN))
    view = picture.transform(size, affine, move, Image.Resampling.BILINEAR, fillcolor=(128, 128, 128))
    view = _light(view, how, random)
    if random.random() < how.shrink:
        view = _shrink(view, random.uniform(0.25, 1))
    if random.random() < how.blur:
        view = view.filter(ImageFilter.GaussianBlur(random.uniform(0.3, 1.5)))
    return _hide(np.array(view), how, random), moved


def _draw_move(picture: Image.Image, shape: InputShape, how: Augmentation, random: np.random.Generator) -> _Affine:
    """Draws a rectangle in the picture, turned and perhaps mirrored, as one transformation."""
    area, stretch = random.uniform(how.least_area, 1), math.exp(random.uniform(-1, 1) * math.log(how.aspect) / 2)
    across, down = min(1, math.sqrt(area) * stretch), min(1, math.sqrt(area) / stretch)
    middle_x = picture.width * random.uniform(across / 2, 1 - across / 2)
    middle_y = picture.height * random.uniform(down / 2, 1 - down / 2)
    mirror = -1 if random.random() < how.flip else 1
    step_x, step_y = mirror * across * picture.width / shape.width_px, down * picture.height / shape.height_px
    turn = math.radians(random.uniform(-how.rotation_degrees, how.rotation_degrees))
    a, b = step_x * math.cos(turn), -step_y * math.sin(turn)
    d, e = step_x * math.sin(turn), step_y * math.cos(turn)
    c = middle_x - (a * shape.width_px + b * shape.height_px) / 2
    f = middle_y - (d * shape.width_px + e * shape.height_px) / 2
    return (a, b, c, d, e, f)


def _light(view: Image.Image, how: Augmentation, random: np.random.Generator) -> Image.Image:
    """Changes brightness, contrast, saturation and tint in one matrix, so that nothing is clipped in between."""
    bright, contrast, saturation = (
        1 + random.uniform(-most, most) for most in (how.brightness, how.contrast, how.saturation)
    )
    gains = bright * (1 + random.uniform(-how.tint, how.tint, 3))
    mixing = saturation * np.eye(3) + (1 - saturation) * np.tile(_LUMA, (3, 1))
    middle = float(np.asarray(view.resize((8, 8), Image.Resampling.BOX)).mean(axis=(0, 1)) @ _LUMA)
    matrix = np.hstack([gains[:, None] * contrast * mixing, (gains * (1 - contrast) * middle)[:, None]])
    return view.convert("RGB", tuple(matrix.ravel().tolist()))


def _shrink(view: Image.Image, share: float) -> Image.Image:
    """Shrinks the view to `share` of its side and enlarges it again."""
    small = view.resize((max(1, round(view.width * share)), max(1, round(view.height * share))), Image.Resampling.BOX)
    return small.resize(view.size, Image.Resampling.BILINEAR)


def _hide(view: Pixels, how: Augmentation, random: np.random.Generator) -> Pixels:
    if random.random() < how.erase:
        _draw_rectangle(view, random)[:] = random.integers(0, 256, 3)
    if random.random() < how.occlude:
        hidden = _draw_rectangle(view, random)
        height, width = hidden.shape[:2]
        top, left = (_draw_start(whole, side, random) for whole, side in zip(view.shape, (height, width), strict=False))
        hidden[:] = view[top : top + height, left : left + width][::-1].copy()
    return view


def _draw_rectangle(view: Pixels, random: np.random.Generator) -> Pixels:
    """A rectangle of the view itself, not a copy."""
    height, width = (max(1, round(random.uniform(*_HIDDEN_SIDE) * whole)) for whole in view.shape[:2])
    top, left = _draw_start(view.shape[0], height, random), _draw_start(view.shape[1], width, random)
    return view[top : top + height, left : left + width]


def _draw_start(whole: int, side: int, random: np.random.Generator) -> int:
    return int(random.integers(0, whole - side + 1))
