"""What is refused on the way from bytes to pixels and with which sentence, and that no other error comes out."""

import random
import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pspsearch.errors import BadImage, DamagedImage, EmptyImage, ImageTooLarge, UnknownFormat
from pspsearch.images.pixels import ImageLimits, decode_pixels
from pspsearch.model.contract import Fit, InputShape
from tests.pictures import claim_size, encode, encode_png, load_photo

SHAPE = InputShape(32, 40)
PHOTO = load_photo(60, 44)
MUTATIONS = 250

KINDS = {
    "jpeg": encode(PHOTO),
    "jpeg-turned": encode(PHOTO, orientation=6),
    "jpeg-progressive": encode(PHOTO, progressive=True),
    "jpeg-cmyk": encode(PHOTO.convert("CMYK")),
    "jpeg-scaled": encode(load_photo(320, 240)),
    "png": encode(PHOTO, "PNG", orientation=3),
    "png-palette": encode(PHOTO.quantize(16), "PNG", transparency=0),
    "png-16": encode_png(np.full((44, 60, 1), 4321, np.uint16)),
    "png-animated": encode(PHOTO, "PNG", save_all=True, append_images=[load_photo(60, 44, 1)]),
    "webp": encode(PHOTO, "WEBP"),
    "webp-lossless": encode(PHOTO, "WEBP", lossless=True, orientation=8),
    "webp-alpha": encode(PHOTO.convert("RGBA"), "WEBP"),
    "webp-animated": encode(PHOTO, "WEBP", save_all=True, append_images=[load_photo(60, 44, 1)]),
}


def test_no_bytes_are_an_empty_image() -> None:
    """No bytes at all have an error class and a sentence of their own."""
    with pytest.raises(EmptyImage, match="0 bytes"):
        decode_pixels(b"", SHAPE)


def test_too_many_bytes_are_refused_with_both_numbers() -> None:
    """The cap is inclusive, and the sentence names what came and what is allowed."""
    data = KINDS["jpeg"]

    assert decode_pixels(data, SHAPE, ImageLimits(max_bytes=len(data))).shape == (32, 40, 3)
    with pytest.raises(ImageTooLarge, match=f"{len(data)} bytes, more than the {len(data) - 1}"):
        decode_pixels(data, SHAPE, ImageLimits(max_bytes=len(data) - 1))


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_too_many_pixels_are_refused_with_both_numbers(kind: str) -> None:
    """The cap is inclusive here too, and the same for every format."""
    assert decode_pixels(KINDS[kind], SHAPE, ImageLimits(max_pixels=60 * 44)).shape == (32, 40, 3)
    with pytest.raises(ImageTooLarge, match=r"60x44 px, more than the 0\.002639 megapixels"):
        decode_pixels(KINDS[kind], SHAPE, ImageLimits(max_pixels=60 * 44 - 1))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_bomb_is_refused_before_anything_is_allocated(kind: str) -> None:
    """A few hundred bytes that claim 3,600 megapixels cost less than 200 kB on the way to the refusal."""
    bomb = claim_size(kind, 60_000, 60_000)
    assert len(bomb) < 1000

    tracemalloc.start()
    with pytest.raises(ImageTooLarge, match="60000x60000 px, more than the 50 megapixels"):
        decode_pixels(bomb, SHAPE)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak_bytes < 200_000


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "animated" not in kind])
def test_a_truncated_image_is_damaged(kind: str) -> None:
    """Half of a file is no image, and the sentence says so; `out` keeps what it held."""
    out = np.full((32, 40, 3), 7, np.uint8)
    data = KINDS[kind]

    with pytest.raises(DamagedImage, match="truncated or corrupt"):
        decode_pixels(data[: len(data) * 2 // 3], SHAPE, out=out)
    assert (out == 7).all()


@pytest.mark.parametrize("missing", [1, 2, 3, 10, 100])
@pytest.mark.parametrize("kind", ["jpeg", "jpeg-progressive", "jpeg-cmyk", "jpeg-scaled"])
def test_a_jpeg_without_its_last_bytes_is_damaged(kind: str, missing: int) -> None:
    """A transfer that broke off near the end is noticed: no grey stripe becomes part of a descriptor."""
    with pytest.raises(DamagedImage):
        decode_pixels(KINDS[kind][:-missing], SHAPE)


@pytest.mark.parametrize("marker", [b"\xff\xdb", b"\xff\xc0", b"\xff\xd9"])
def test_a_whole_jpeg_with_stray_bytes_is_read(marker: bytes) -> None:
    """Untidy writers leave bytes between segments; the picture is whole and looks the same within rounding."""
    data = KINDS["jpeg"]
    place = data.rindex(marker)

    pixels = decode_pixels(data[:place] + b"stray" + data[place:], SHAPE)

    assert np.abs(pixels.astype(np.int16) - decode_pixels(data, SHAPE)).max() <= 2


def test_stray_bytes_do_not_hide_a_truncation() -> None:
    """The first warning of the decoder is harmless, the second is not: both are seen."""
    data = KINDS["jpeg"]
    place = data.index(b"\xff\xdb")

    with pytest.raises(DamagedImage):
        decode_pixels(data[:place] + b"stray" + data[place:-200], SHAPE)


def test_bytes_behind_the_end_of_a_jpeg_are_ignored() -> None:
    """Phones append their own data to photographs."""
    data = KINDS["jpeg"]

    assert np.array_equal(decode_pixels(data + b"appended by a phone", SHAPE), decode_pixels(data, SHAPE))


def test_a_png_with_two_sizes_is_damaged() -> None:
    """A second header chunk cannot smuggle a larger picture past the cap."""
    data = claim_size("PNG", 60, 44)
    second = claim_size("PNG", 60_000, 60_000)[8:33]

    with pytest.raises(DamagedImage, match="contradicts itself"):
        decode_pixels(data[:33] + second + data[33:], SHAPE)


def mutate(data: bytes, dice: random.Random) -> bytes:
    """Changes, cuts out, doubles or cuts off some bytes, more often near the header than elsewhere."""
    changed = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 5, 20))):
        reach = dice.choice((64, 700, len(changed)))
        place = dice.randrange(max(1, min(reach, len(changed))))
        length = dice.choice((1, 2, 4, 30))
        act = dice.randrange(5)
        if act == 0:
            changed[place : place + length] = dice.randbytes(length)
        elif act == 1:
            changed[place : place + length] = dice.choice((b"\0", b"\xff", b"\x7f")) * length
        elif act == 2:
            del changed[place : place + length]
        elif act == 3:
            changed[place:place] = changed[place : place + length]
        elif dice.random() < 0.3:
            del changed[place:]
    return bytes(changed)


def decode_or_refuse(data: bytes, shape: InputShape) -> bool:
    """Whether there are pixels; False if the image was refused by a sentence. Anything else raises."""
    try:
        return decode_pixels(data, shape, ImageLimits(max_pixels=1_000_000)).shape == (32, 40, 3)
    except BadImage:
        return False


@pytest.mark.parametrize("kind", KINDS)
def test_no_mutation_of_an_image_gives_anything_but_pixels_or_a_refusal(kind: str) -> None:
    """Thousands of damaged files of every kind (seeded) raise no other exception, and both outcomes occur."""
    dice = random.Random(kind)
    shapes = [InputShape(32, 40, fit) for fit in Fit]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of some damage and reads on, as it would in production
        outcomes = {decode_or_refuse(mutate(KINDS[kind], dice), dice.choice(shapes)) for _ in range(MUTATIONS)}

    assert outcomes == {True, False}


@pytest.mark.parametrize("magic", [b"\xff\xd8", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"RIFF\0\1\0\0WEBPVP8 ", b""])
@given(rest=st.binary(max_size=300))
@settings(max_examples=150, derandomize=True, deadline=None, database=None)
def test_random_bytes_are_refused(magic: bytes, rest: bytes) -> None:
    """Random bytes, with or without a format's first bytes, get a typed refusal (no such draw is an image)."""
    with pytest.raises((EmptyImage, UnknownFormat, DamagedImage, ImageTooLarge)):
        decode_pixels(magic + rest, SHAPE)
