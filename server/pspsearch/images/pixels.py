"""Turns bytes into pixels, with one function for training, export and serving.

Whatever a person uploads becomes the uint8 RGB rectangle that a model takes, or a BadImage with one clear sentence.
Colour profiles are not applied.
"""

from dataclasses import dataclass
from io import BytesIO
from math import ceil, floor
from typing import cast

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from pspsearch.domain import Area
from pspsearch.errors import BadImage, DamagedImage, EmptyImage, ImageTooLarge
from pspsearch.images.box import Box, Sides
from pspsearch.images.header import Header, ImageFormat, read_header
from pspsearch.model.contract import Fit, InputShape

_MID_GREY = 128
_WHITE = (255, 255, 255, 255)
_PLUGINS = {ImageFormat.JPEG: JpegImageFile, ImageFormat.PNG: PngImageFile, ImageFormat.WEBP: WebPImageFile}

_FLIPPED = (2, 3, 6, 7)
"""The orientations whose picture is shown with left and right exchanged; those from 5 on are transposed before."""
_UPSIDE_DOWN = (3, 4, 7, 8)

_DCT_EIGHTHS = (1, 2, 4, 5)
"""The fractions of its size, in eighths, at which a JPEG is decoded: the others cost more than they save."""

_HARMLESS_WARNINGS = ("extraneous bytes before marker", "unknown JFIF revision", "Unknown Adobe color transform")
"""What libjpeg says of photographs that are intact but untidy."""

_REDUCING_GAP = 2.0
"""Pillow may shrink by a whole factor first, as long as it leaves this much to the filter: 3 times as fast at 12 MP."""


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """The limits of an image, checked before anything is decoded."""

    max_bytes: int = 20 * 1024 * 1024
    max_pixels: int = 50_000_000


USUAL_LIMITS = ImageLimits()
"""The limits of a server that nobody has set."""


@dataclass(frozen=True, slots=True)
class _Placing:
    """The part of the stored picture, in its pixels, that is used, and the size that it is resized to."""

    left: float
    top: float
    right: float
    bottom: float
    size: tuple[int, int]
    """(width, height) in px."""
    box: Sides | None = None
    """The pixels around it are cut off before the rest is resized. So they cost less, and none shows at its edges."""


def decode_pixels(
    data: bytes | bytearray | memoryview,
    shape: InputShape,
    limits: ImageLimits = ImageLimits(),
    out: NDArray[np.uint8] | None = None,
    box: Box | None = None,
) -> NDArray[np.uint8]:
    """Returns the pixels of an encoded image, upright and fitted to `shape`: (height, width, 3), RGB, C-contiguous.

    With a box, that part of the upright image is fitted instead of all of it. If `out` is given, the pixels are written
    into it and it is returned. Raises a BadImage for bytes that cannot be read and an InvalidRequest for a box that is
    not in the image, and leaves `out` as it was. Any thread may call this; decoding and resizing release the GIL.
    """
    encoded = _check_bytes(data, limits)
    header = _check_header(encoded, limits)
    fitted = _decode_fitted(encoded, header, _place(header, shape, box))
    if out is None:
        out = np.empty((shape.height_px, shape.width_px, 3), np.uint8)
    _write_upright(fitted, header.orientation, out)
    return out


def read_facts(data: bytes, limits: ImageLimits = ImageLimits()) -> Header:
    """Reads what an encoded image says of itself; raises a BadImage if it would be refused before decoding."""
    return _check_header(_check_bytes(data, limits), limits)


def seen_part(data: bytes, shape: InputShape, box: Box | None = None) -> Area:
    """Returns the part of the upright picture that is fitted to `shape`, of all of it or of a box.

    With PAD it reaches beyond that.
    """
    width, height = read_header(data).upright
    left, top, right, bottom = box.within(width, height) if box is not None else (0, 0, width, height)
    half_across, half_down = (right - left) / 2, (bottom - top) / 2
    if shape.fit is not Fit.SQUASH:
        choose = min if shape.fit is Fit.CROP else max
        scale = choose(half_across / shape.width_px, half_down / shape.height_px)
        half_across, half_down = scale * shape.width_px, scale * shape.height_px
    x, y = (left + right) / 2, (top + bottom) / 2
    return Area(
        (x - half_across) / width, (y - half_down) / height, (x + half_across) / width, (y + half_down) / height
    )


def _check_header(encoded: bytes, limits: ImageLimits) -> Header:
    header = read_header(encoded)
    if header.width_px * header.height_px > limits.max_pixels:
        raise ImageTooLarge(
            f"the {header.format} image has {header.width_px}x{header.height_px} px, "
            f"more than the {limits.max_pixels / 1e6:g} megapixels allowed"
        )
    return header


def _check_bytes(data: bytes | bytearray | memoryview, limits: ImageLimits) -> bytes:
    size_bytes = memoryview(data).nbytes
    if size_bytes == 0:
        raise EmptyImage("the image is empty: it has 0 bytes")
    if size_bytes > limits.max_bytes:
        raise ImageTooLarge(f"the image has {size_bytes} bytes, more than the {limits.max_bytes} allowed")
    return bytes(data)  # copies only what somebody could change while it is read


def _place(header: Header, shape: InputShape, box: Box | None) -> _Placing:
    cut = None if box is None else _as_stored(box, header)
    left, top, right, bottom = cut or (0, 0, header.width_px, header.height_px)
    width, height = right - left, bottom - top
    size = (shape.width_px, shape.height_px) if header.orientation < 5 else (shape.height_px, shape.width_px)
    if shape.fit is Fit.CROP:
        across = max(0.0, (width - height * size[0] / size[1]) / 2)
        down = max(0.0, (height - width * size[1] / size[0]) / 2)
        return _Placing(left + across, top + down, right - across, bottom - down, size, cut)
    if shape.fit is Fit.PAD:
        scale = min(size[0] / width, size[1] / height)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return _Placing(left, top, right, bottom, size, cut)


def _as_stored(box: Box, header: Header) -> Sides:
    """The sides of the box in the stored picture, in px: undoes what `_write_upright` does to it."""
    width, height = header.upright
    left, top, right, bottom = box.within(width, height)
    if header.orientation in _FLIPPED:
        left, right = width - right, width - left
    if header.orientation in _UPSIDE_DOWN:
        top, bottom = height - bottom, height - top
    return (top, left, bottom, right) if header.orientation >= 5 else (left, top, right, bottom)


def _decode_fitted(encoded: bytes, header: Header, placing: _Placing) -> NDArray[np.uint8]:
    """The placed part of the picture, (height, width, 3), not yet upright."""
    try:
        image, scale = _decode(encoded, header, placing)
        return np.asarray(_resize(image, scale, placing))
    except BadImage:
        raise
    except MemoryError as error:
        raise ImageTooLarge(
            f"the {header.format} image of {header.width_px}x{header.height_px} px does not fit into memory"
        ) from error
    except Exception as error:  # whatever a decoder raises, the bytes made it do so
        raise DamagedImage(f"the {header.format} image is truncated or corrupt: {error}") from error


def _decode(encoded: bytes, header: Header, placing: _Placing) -> tuple[Image.Image, float]:
    """The picture in RGB or RGBA, cut to its box if it has one, and its scale.

    A JPEG is decoded no larger than its placing needs.
    """
    if header.format is ImageFormat.JPEG and header.components < 4:
        try:
            return _decode_jpeg(encoded, header, placing)
        except ValueError as error:
            if not any(warning in str(error) for warning in _HARMLESS_WARNINGS):
                raise
    image = _PLUGINS[header.format](BytesIO(encoded))
    if image.size != (header.width_px, header.height_px):
        raise DamagedImage(f"the {header.format} image contradicts itself about its size")
    return _convert(image.crop(_frame(placing.box, 1.0)) if placing.box else image), 1.0


def _decode_jpeg(encoded: bytes, header: Header, placing: _Placing) -> tuple[Image.Image, float]:
    across, down = placing.right - placing.left, placing.bottom - placing.top
    needed = max(placing.size[0] / across, placing.size[1] / down)
    scale = next((eighths / 8 for eighths in _DCT_EIGHTHS if eighths / 8 >= needed), 1.0)
    # simplejpeg takes the smallest fraction that gives this size; for a picture of a few pixels several give the same
    least = (ceil(header.height_px * scale), ceil(header.width_px * scale)) if scale < 1 else (0, 0)
    pixels = cast(NDArray[np.uint8], simplejpeg.decode_jpeg(encoded, min_height=least[0], min_width=least[1]))
    if placing.box:
        left, top, right, bottom = _frame(placing.box, scale)
        pixels = pixels[top:bottom, left:right]
    return Image.fromarray(pixels), scale


def _frame(box: Sides, scale: float) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the pixels that a box touches in the picture at that scale."""
    left, top, right, bottom = box
    return floor(left * scale), floor(top * scale), ceil(right * scale), ceil(bottom * scale)


def _convert(image: Image.Image) -> Image.Image:
    if image.mode == "I;16":  # Pillow's own conversion clips instead of scaling
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _resize(image: Image.Image, scale: float, placing: _Placing) -> Image.Image:
    """The placed part of `image`, antialiased; what is transparent becomes white."""
    x, y = _frame(placing.box, scale)[:2] if placing.box else (0, 0)
    box = (placing.left * scale - x, placing.top * scale - y, placing.right * scale - x, placing.bottom * scale - y)
    small = image.resize(placing.size, Image.Resampling.BILINEAR, box, _REDUCING_GAP)
    if small.mode == "RGBA":
        return Image.alpha_composite(Image.new("RGBA", small.size, _WHITE), small).convert("RGB")
    return small


def _write_upright(fitted: NDArray[np.uint8], orientation: int, out: NDArray[np.uint8]) -> None:
    """Undoes the camera's rotation on the small picture and puts it in the middle of `out`."""
    if orientation >= 5:
        fitted = fitted.transpose(1, 0, 2)
    if orientation in _UPSIDE_DOWN:
        fitted = fitted[::-1]
    if orientation in _FLIPPED:
        fitted = fitted[:, ::-1]
    top, left = (out.shape[0] - fitted.shape[0]) // 2, (out.shape[1] - fitted.shape[1]) // 2
    if fitted.shape != out.shape:
        out[:] = _MID_GREY
    out[top : top + fitted.shape[0], left : left + fitted.shape[1]] = fitted
