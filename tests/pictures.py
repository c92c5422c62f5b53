"""Pictures for tests and benchmarks, built in memory: photographs, their encodings, and files that lie."""

import struct
import zlib
from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from sklearn import datasets

ORIENTATION_TAG = 0x0112
_STORED_AS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How a camera that writes this Exif orientation has turned the picture that it stores."""


@lru_cache
def load_photo(width_px: int = 640, height_px: int = 427, number: int = 0) -> Image.Image:
    """Returns scikit-learn's photograph 0 (a temple) or 1 (a flower), resized.

    They have detail, edges and smooth parts.
    """
    photo = Image.fromarray(datasets.load_sample_images().images[number])
    return photo.resize((width_px, height_px), Image.Resampling.LANCZOS)


def encode(image: Image.Image, kind: str = "JPEG", orientation: int = 1, **options: Any) -> bytes:
    """Encodes the image, with an Exif orientation if that is not 1."""
    if orientation != 1:
        options["exif"] = Image.Exif()
        options["exif"][ORIENTATION_TAG] = orientation
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def encode_turned(image: Image.Image, orientation: int, kind: str = "JPEG", **options: Any) -> bytes:
    """Encodes the image as a camera stores it if it was held so that the picture must be turned by `orientation`."""
    stored = image.transpose(_STORED_AS[orientation]) if orientation != 1 else image
    return encode(stored, kind, orientation, **options)


def encode_png(samples: NDArray[np.uint8] | NDArray[np.uint16], *chunks: tuple[bytes, bytes]) -> bytes:
    """Encodes a PNG of 8 or 16 bits per sample, (height, width, 1 to 4 channels), with more chunks before its data.

    It is written by hand because Pillow writes no 16-bit colour.
    """
    height, width, channels = samples.shape
    rows = samples.astype(samples.dtype.newbyteorder(">")).reshape(height, -1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    bits, colour = 8 * samples.itemsize, {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    ihdr = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return join_png((b"IHDR", ihdr), *chunks, (b"IDAT", zlib.compress(raw)), (b"IEND", b""))


def join_png(*chunks: tuple[bytes, bytes]) -> bytes:
    """Joins chunks, each (name, data), into a PNG file."""
    parts = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def encode_ycck(image: Image.Image) -> bytes:
    """Encodes a JPEG as Photoshop writes it for print: YCCK, inverted, no black."""
    planes = [ImageOps.invert(plane) for plane in ImageOps.invert(image).convert("YCbCr").split()]
    cmyk = encode(Image.merge("CMYK", [*planes, Image.new("L", image.size, 0)]), quality=95)
    transform = cmyk.index(b"Adobe") + 11
    return cmyk[:transform] + b"\x02" + cmyk[transform + 1 :]


def claim_size(kind: str, width_px: int, height_px: int) -> bytes:
    """Returns a file of at most a few hundred bytes that claims this size."""
    if kind == "PNG":
        ihdr = struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0)
        return join_png((b"IHDR", ihdr), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    if kind == "WEBP":
        canvas = (width_px - 1).to_bytes(3, "little") + (height_px - 1).to_bytes(3, "little")
        body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + canvas
        return b"RIFF" + struct.pack("<I", len(body)) + body
    small = encode(Image.new("RGB", (8, 8)))
    size = small.index(b"\xff\xc0") + 5
    return small[:size] + struct.pack(">HH", height_px, width_px) + small[size + 4 :]
