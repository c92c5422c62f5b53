"""Reads an image's header by hand: size, orientation, and what the error says if the file is no image."""

import random
import struct

import pytest
from PIL import Image

from pspsearch.errors import DamagedImage, UnknownFormat
from pspsearch.images.exif import read_orientation
from pspsearch.images.header import Header, ImageFormat, read_header
from tests.pictures import ORIENTATION_TAG, claim_size, encode, join_png, load_photo

PHOTO = load_photo(90, 60)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (encode(PHOTO), ImageFormat.JPEG),
        (encode(PHOTO, progressive=True), ImageFormat.JPEG),
        (encode(PHOTO, "PNG"), ImageFormat.PNG),
        (encode(PHOTO, "WEBP"), ImageFormat.WEBP),
        (encode(PHOTO, "WEBP", lossless=True), ImageFormat.WEBP),
        (encode(PHOTO.convert("RGBA"), "WEBP"), ImageFormat.WEBP),
    ],
    ids=["jpeg", "progressive", "png", "webp-vp8", "webp-vp8l", "webp-alpha"],
)
def test_size_and_format_are_read_from_the_content(data: bytes, kind: ImageFormat) -> None:
    """Each kind of file tells the format and the size that it was written with."""
    assert read_header(data) == Header(kind, width_px=90, height_px=60)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_jpeg_tells_how_many_components_it_has(mode: str) -> None:
    """Grey, colour and print pictures are told apart before they are decoded."""
    header = read_header(encode(PHOTO.convert(mode)))

    assert header.components == len(mode)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_read_from_every_format(kind: str, orientation: int) -> None:
    """All eight values of Exif come back, from JPEG's segment and from PNG's and WebP's chunk."""
    header = read_header(encode(PHOTO, kind, orientation))

    assert (header.width_px, header.height_px, header.orientation) == (90, 60, orientation)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["H", "I"])
def test_orientation_is_read_in_both_byte_orders_and_integer_types(order: str, kind: str) -> None:
    """Cameras write Exif in either byte order, and some write a LONG where a SHORT is asked for."""
    magic = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(order + "HHI", ORIENTATION_TAG, {"H": 3, "I": 4}[kind], 1) + struct.pack(order + kind, 6)
    block = magic + struct.pack(order + "IH", 8, 1) + entry.ljust(12, b"\0")

    assert read_orientation(block) == 6
    assert read_orientation(b"Exif\0\0" + block) == 6


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_outside_1_to_8_counts_as_none(value: int) -> None:
    """A wrong orientation leaves the picture as it is stored."""
    assert read_header(encode(PHOTO, orientation=value)).orientation == 1


def test_a_damaged_exif_block_counts_as_none() -> None:
    """Every prefix of an Exif block, and one that points outside itself, is read without an exception."""
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = 6
    block = exif.tobytes()

    assert read_orientation(block) == 6
    assert {read_orientation(block[:cut]) for cut in range(len(block) - 6)} <= {1, 6}
    assert read_orientation(b"II*\0\xff\xff\xff\xff") == 1
    assert read_orientation(b"MM\0*\0\0\0\x08\xff\xff") == 1


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (encode(PHOTO, "GIF"), "GIF"),
        (encode(PHOTO, "BMP"), "BMP"),
        (encode(PHOTO, "TIFF"), "TIFF"),
        (b"\0\0\0\x1cftypheic\0\0\0\0", "HEIC"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "AVIF"),
        (b"%PDF-1.7\n", "PDF"),
        (b'<?xml version="1.0"?><svg/>', "XML"),
        (b'\n <svg xmlns="http://www.w3.org/2000/svg">', "SVG"),
        (b"<!DOCTYPE html><title>404</title>", "HTML"),
        (b"hello", "no known format"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "no known format"),
    ],
)
def test_another_format_is_named_where_that_is_easy(data: bytes, name: str) -> None:
    """The sentence says what the file seems to be and what is read."""
    with pytest.raises(UnknownFormat, match=rf"{name}.*JPEG, PNG and WebP are read"):
        read_header(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_header_that_is_cut_off_is_damaged(kind: str) -> None:
    """Wherever the header ends too early the answer is a typed error, never an index out of range."""
    data = claim_size(kind, 90, 60)
    needed = data.index(b"\xff\xc0") + 10 if kind == "JPEG" else {"PNG": 24, "WEBP": 30}[kind]

    for cut in range(12, needed):
        with pytest.raises(DamagedImage):
            read_header(data[:cut])


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("size", [(0, 60), (90, 0)])
def test_a_picture_without_pixels_is_damaged(kind: str, size: tuple[int, int]) -> None:
    """A side of zero is refused with the size that the file claims."""
    with pytest.raises(DamagedImage, match=f"{size[0]}x{size[1]} px"):
        read_header(claim_size(kind, *size))


def test_a_kind_of_jpeg_that_nobody_reads_is_unknown() -> None:
    """Lossless JPEG and 12 bits per sample are refused by name, before a decoder sees them."""
    data = encode(PHOTO)
    frame = data.index(b"\xff\xc0")

    for lie in (data[: frame + 1] + b"\xc3" + data[frame + 2 :], data[: frame + 4] + b"\x0c" + data[frame + 5 :]):
        with pytest.raises(UnknownFormat, match="rare kind"):
            read_header(lie)


def of_scans(photo: Image.Image, size: tuple[int, int], scans: int, *, progressive: bool = False) -> bytes:
    """A JPEG that claims this size and has so many scans of its first component, all but the last without data."""
    data = encode(photo, progressive=progressive)
    frame, scan = data.index(b"\xff\xc2" if progressive else b"\xff\xc0"), data.index(b"\xff\xda")
    claimed = data[: frame + 5] + struct.pack(">HH", size[1], size[0]) + data[frame + 9 : scan]
    return claimed + b"\xff\xda\0\x08\x01\x01\0\0\0\0" * scans + b"\x55" * 100 + b"\xff\xd9"


@pytest.mark.parametrize(
    ("mode", "size", "progressive", "most"),
    [
        ("RGB", (7000, 7000), True, 20),
        ("RGB", (4000, 5000), True, 50),
        ("RGB", (90, 60), True, 100),
        ("L", (60_000, 60_000), True, 20),
        ("RGB", (90, 60), False, 3),
        ("CMYK", (90, 60), False, 4),
    ],
)
def test_a_jpeg_of_endless_scans_is_refused(mode: str, size: tuple[int, int], progressive: bool, most: int) -> None:
    """Each scan costs a pass over the whole picture, so the larger a progressive JPEG, the fewer it may have."""
    photo = PHOTO.convert(mode)

    header = read_header(of_scans(photo, size, most, progressive=progressive))

    assert (header.width_px, header.height_px) == size
    with pytest.raises(DamagedImage, match=f"more than {most} scans"):
        read_header(of_scans(photo, size, most + 1, progressive=progressive))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_jpeg_of_the_largest_size_has_as_many_scans_as_are_written(mode: str) -> None:
    """Four components are written in 18 scans."""
    data = encode(PHOTO.convert(mode), progressive=True)
    size = data.index(b"\xff\xc2") + 5

    header = read_header(data[:size] + struct.pack(">HH", 7000, 7000) + data[size + 4 :])

    assert (header.width_px, header.height_px) == (7000, 7000)


@pytest.mark.parametrize(
    "photo",
    [encode(PHOTO), encode(PHOTO, progressive=True), of_scans(PHOTO, (90, 60), 3)],
    ids=["baseline", "progressive", "apart"],
)
def test_a_video_behind_a_jpeg_is_not_looked_into(photo: bytes) -> None:
    """This is a phone's moving photograph: megabytes after its end, in which anything may look like a scan."""
    video = random.Random(1).randbytes(3_000_000).replace(b"\0", b"\xff\xda")

    assert read_header(photo + video) == Header(ImageFormat.JPEG, 90, 60)


def test_only_markers_have_a_length() -> None:
    """What a decoder passes over cannot hide the scans behind it as if they were inside a segment."""
    data = of_scans(PHOTO, (90, 60), 4)
    first = data.index(b"\xff\xda") + 10

    for other in (b"\xff\x01", b"\xff\x02", b"\xff\xbf", b"\xff\xd0", b"\xff\xd7", b"\xff\xd8", b"\xff\0"):
        with pytest.raises(DamagedImage, match="more than 3 scans"):
            read_header(data[:first] + other + b"\0\x1e" + data[first:])


def test_exif_behind_the_frame_is_none() -> None:
    """An Exif block after the frame is ignored; nobody writes it there."""
    data = encode(PHOTO, orientation=6)
    exif = data[data.index(b"Exif") - 4 : data.index(b"\xff\xdb")]
    plain = data.replace(exif, b"")
    scan = plain.index(b"\xff\xda")

    assert read_header(data).orientation == 6
    assert read_header(plain[:scan] + exif + plain[scan:]).orientation == 1


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8" + b"\xff" * 4_000_000,
        b"\xff\xd8\xff" + b"\0\xff" * 2_000_000,
        b"\xff\xd8" + b"\xff\xd0" * 2_000_000,
        b"\xff\xd8" + b"\xff\xe0\0\2" * 1_000_000,
        b"\xff\xd8" + b"\xff\xe0\0\0" * 1_000_000,
    ],
    ids=["fill", "stuffing", "restarts", "empty-segments", "lengths-of-zero"],
)
def test_a_jpeg_header_without_end_is_damaged(data: bytes) -> None:
    """Megabytes of nothing but marker bytes are refused."""
    with pytest.raises(DamagedImage):
        read_header(data)


def test_endless_segments_of_a_jpeg_are_refused() -> None:
    """Endless segments are refused even between the header and the first scan: Pillow walks through them one by one."""
    data = encode(PHOTO)
    scan = data.index(b"\xff\xda")

    assert read_header(data[:scan] + b"\xff\xfe\0\2" * 9000 + data[scan:]) == Header(ImageFormat.JPEG, 90, 60)
    with pytest.raises(DamagedImage, match="more than 10000 segments"):
        read_header(data[:scan] + b"\xff\xfe\0\2" * 10_000 + data[scan:])


@pytest.mark.parametrize("stray", [b"\0", b"\xff", b"\xff\0", b"\xff\xd0"])
def test_endless_stray_bytes_of_a_jpeg_are_refused(stray: bytes) -> None:
    """Endless stray bytes are refused, too: Pillow goes through them one by one, and 20 MiB took up to 9 seconds."""
    data = encode(PHOTO)
    frame = data.index(b"\xff\xc0")

    assert read_header(data[:frame] + stray * 1000 + data[frame:]) == Header(ImageFormat.JPEG, 90, 60)
    with pytest.raises(DamagedImage, match="more than 1048576 stray bytes"):
        read_header(data[:frame] + stray * 1_050_000 + data[frame:])


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_endless_chunks_are_refused(kind: str) -> None:
    """This holds wherever the orientation stands: Pillow walks through a PNG's chunks one by one."""
    data = encode(PHOTO, kind, orientation=6)
    note = data.index(b"eXIf") - 4 if kind == "PNG" else data.index(b"EXIF")
    end = data.index(b"IEND") - 4 if kind == "PNG" else len(data)
    empty = join_png((b"tEXt", b""))[8:] if kind == "PNG" else b"XYZW\0\0\0\0"

    def with_empty(chunks: int, place: int) -> bytes:
        body = data[:place] + empty * chunks + data[place:]
        return body if kind == "PNG" else body[:4] + struct.pack("<I", len(body) - 8) + body[8:]

    for place in (note, end):
        assert read_header(with_empty(9000, place)).orientation == 6
        with pytest.raises(DamagedImage, match="more than 10000 chunks"):
            read_header(with_empty(10_000, place))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_what_stands_behind_the_last_chunk_is_no_chunk(kind: str) -> None:
    """A file that is padded with zeros is whole."""
    data = encode(PHOTO, kind, orientation=6)

    assert read_header(data + bytes(1_000_000)) == Header(ImageFormat(kind.replace("WEBP", "WebP")), 90, 60, 6)
