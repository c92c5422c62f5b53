"""Reads format, size and orientation from an image's header, before anything is decoded.

The header is read by hand, because a decoder that is asked for the size may already have allocated the picture. Every
walk only goes forward and is bounded by the length of the data, so no bytes can make it loop or reach beyond their end.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from pspsearch.errors import DamagedImage, UnknownFormat
from pspsearch.images.exif import read_orientation


class ImageFormat(StrEnum):
    """The formats that can be read."""

    JPEG = "JPEG"
    PNG = "PNG"
    WEBP = "WebP"


@dataclass(frozen=True, slots=True)
class Header:
    """The picture as stored; with orientations 5 to 8 it is shown with width and height exchanged."""

    format: ImageFormat
    width_px: int
    height_px: int
    orientation: int = 1
    """From 1 to 8, as in Exif; 1 if there is none."""
    components: int = 3
    """For JPEG: 1 is grey, 3 is colour, 4 is CMYK or YCCK."""

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height of the picture as shown, in px."""
        return (self.width_px, self.height_px) if self.orientation < 5 else (self.height_px, self.width_px)


_OTHER_FORMATS = (
    (0, b"GIF8", "GIF"),
    (0, b"BM", "BMP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"%PDF", "PDF"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftypavis", "AVIF"),
    (4, b"ftyphe", "HEIC"),
    (4, b"ftypmif1", "HEIC or AVIF"),
    (4, b"ftypmsf1", "HEIC or AVIF"),
    (4, b"ftyp", "video"),
)
_MARKUP = ((b"<svg", "SVG"), (b"<!doctype html", "HTML"), (b"<html", "HTML"), (b"<?xml", "XML"))

_MOST_PARTS = 10_000
"""The most JPEG segments, or PNG or WebP chunks, of one image: walking through millions of empty ones takes seconds."""
_MOST_STRAY_BYTES = 1 << 20
"""The most bytes outside segments before a JPEG's first scan: Pillow goes through them one by one."""
_MOST_SCANS = 100
"""The most scans of a progressive JPEG, which has about ten; each is work for the whole picture, however small."""
_USUAL_SCANS = 20
"""Scans that are read of any picture: more than libjpeg writes, which is 10 for colour and 18 for four components."""
_MOST_SCANNED_PIXELS = 1_000_000_000
"""The most scans times pixels: so many take up to 0.6 s, however few bytes there are."""

_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")  # skips restarts and what is no marker, as decoders do
_SOI, _EOI, _SOS, _APP1 = 0xD8, 0xD9, 0xDA, 0xE1
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_READABLE_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})  # not the lossless and the hierarchical ones
_PROGRESSIVE_FRAMES = frozenset({0xC2, 0xCA})


def read_header(data: bytes) -> Header:
    """Reads the header of an encoded image, by its content.

    Allocates nothing that grows with the picture. Raises UnknownFormat if the content is none of ImageFormat (or a kind
    of it that no decoder here reads) and DamagedImage if the header is cut off or contradicts itself.
    """
    try:
        if data.startswith(b"\xff\xd8\xff"):
            header = _read_jpeg(data)
        elif data.startswith(b"\x89PNG\r\n\x1a\n"):
            header = _read_png(data)
        elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            header = _read_webp(data)
        else:
            raise UnknownFormat(f"the image seems to be {_describe_unknown(data)}; JPEG, PNG and WebP are read")
    except struct.error as error:
        raise DamagedImage(f"the image ends inside its header, after {len(data)} bytes") from error
    if header.width_px < 1 or header.height_px < 1:
        raise DamagedImage(f"the {header.format} image says that it is {header.width_px}x{header.height_px} px")
    return header


def _describe_unknown(data: bytes) -> str:
    for offset, magic, name in _OTHER_FORMATS:
        if data.startswith(magic, offset):
            return name
    text = data[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for magic, name in _MARKUP:
        if text.startswith(magic):
            return name
    return f"in no known format (it starts with {data[:8].hex(' ')})"


def _read_jpeg(data: bytes) -> Header:
    header, orientation, scans, most_scans = None, 1, 0, 0
    for marker, position in _jpeg_segments(data):
        if marker == _SOS:
            if header is None:
                raise DamagedImage("the JPEG image has no frame header before its first scan")
            scans += 1
            if scans > most_scans:
                raise DamagedImage(
                    f"the JPEG image has more than {most_scans} scans; no photograph of its size has so many"
                )
            if scans == 1 and _is_done_within(data, position, header, most_scans):
                break
        elif header is None and marker in _FRAMES:
            header = _read_jpeg_frame(data, position, marker, orientation)
            most_scans = _most_scans(marker, header)
        elif header is None and marker == _APP1 and orientation == 1 and data.startswith(b"Exif\0\0", position + 2):
            orientation = read_orientation(data[position + 2 : position + _jpeg_length(data, position)])
    if header is None:
        raise DamagedImage(f"the JPEG image ends inside its header, after {len(data)} bytes")
    return header


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yields each marker and the position after it, up to the end of the picture."""
    position, stray_bytes, scanning = 2, 0, False
    for _ in range(_MOST_PARTS):
        found = _MARKER.search(data, position)
        if found is None or data[found.end() - 1] == _EOI:
            return
        if not scanning:
            stray_bytes += found.start() - position
            if stray_bytes > _MOST_STRAY_BYTES:
                raise DamagedImage(f"the JPEG image has more than {_MOST_STRAY_BYTES} stray bytes in its header")
        marker, position = data[found.end() - 1], found.end()
        yield marker, position
        scanning = scanning or marker == _SOS
        if marker != _SOI:
            position += max(_jpeg_length(data, position), 2)
    raise DamagedImage(f"the JPEG image has more than {_MOST_PARTS} segments; no photograph has so many")


def _jpeg_length(data: bytes, position: int) -> int:
    return int.from_bytes(data[position : position + 2])


def _read_jpeg_frame(data: bytes, position: int, marker: int, orientation: int) -> Header:
    bits, height_px, width_px, components = struct.unpack_from(">BHHB", data, position + 2)
    if marker not in _READABLE_FRAMES or bits != 8 or components not in (1, 3, 4):
        raise UnknownFormat(
            f"the image is a JPEG of a rare kind that is not read: frame type {marker - 0xC0}, {bits} bits, "
            f"{components} components"
        )
    return Header(ImageFormat.JPEG, width_px, height_px, orientation, components)


def _most_scans(frame: int, header: Header) -> int:
    if frame not in _PROGRESSIVE_FRAMES:
        return header.components
    affordable = _MOST_SCANNED_PIXELS // max(header.width_px * header.height_px, 1)
    return min(max(affordable, _USUAL_SCANS), _MOST_SCANS)


def _is_done_within(data: bytes, first_scan: int, header: Header, most_scans: int) -> bool:
    """Whether the scans are few enough, judged without walking through them; this works for nearly every photograph.

    If the first scan of a sequential JPEG has all components, decoders read no other.
    """
    is_whole = header.components == most_scans and data[first_scan + 2 : first_scan + 3] == bytes((most_scans,))
    return is_whole or data.count(b"\xff\xda", first_scan) < most_scans


def _read_png(data: bytes) -> Header:
    length, name, width_px, height_px = struct.unpack_from(">I4sII", data, 8)
    if name != b"IHDR" or length != 13:
        raise DamagedImage("the PNG image does not start with its header chunk")
    return Header(ImageFormat.PNG, width_px, height_px, _read_exif_chunk(data, _png_chunks(data), b"eXIf"))


def _read_webp(data: bytes) -> Header:
    name = data[12:16]
    if name == b"VP8X":
        width_px = 1 + int.from_bytes(_take(data, 24, 3), "little")
        height_px = 1 + int.from_bytes(_take(data, 27, 3), "little")
        orientation = _read_exif_chunk(data, _webp_chunks(data), b"EXIF")
        return Header(ImageFormat.WEBP, width_px, height_px, orientation)
    if name == b"VP8 " and _take(data, 23, 3) == b"\x9d\x01\x2a":
        width_px, height_px = struct.unpack_from("<HH", data, 26)
        return Header(ImageFormat.WEBP, width_px & 0x3FFF, height_px & 0x3FFF)
    if name == b"VP8L" and _take(data, 20, 1) == b"\x2f":
        (bits,) = struct.unpack_from("<I", data, 21)
        return Header(ImageFormat.WEBP, 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
    raise DamagedImage(f"the WebP image starts with a chunk {name!r} that holds no picture")


def _take(data: bytes, start: int, count: int) -> bytes:
    (taken,) = struct.unpack_from(f"{count}s", data, start)
    return taken


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, slice]]:
    position = 8
    while position + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        yield name, slice(position + 8, position + 8 + length)
        if name == b"IEND":
            return
        position += length + 12


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, slice]]:
    position, end = 12, min(8 + int.from_bytes(data[4:8], "little"), len(data))
    while position + 8 <= end:
        name, length = struct.unpack_from("<4sI", data, position)
        yield name, slice(position + 8, position + 8 + length)
        position += 8 + length + length % 2


def _read_exif_chunk(data: bytes, chunks: Iterator[tuple[bytes, slice]], wanted: bytes) -> int:
    exif = None
    for count, (name, extent) in enumerate(chunks):
        if count == _MOST_PARTS:
            raise DamagedImage(f"the image has more than {_MOST_PARTS} chunks; no picture has so many")
        if name == wanted and exif is None:
            exif = extent
    return 1 if exif is None else read_orientation(data[exif])
