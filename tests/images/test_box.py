"""A part of a picture is decoded as if it were a picture of its own."""

from math import inf, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from pspsearch.errors import InvalidRequest
from pspsearch.images.box import Box
from pspsearch.images.pixels import decode_pixels
from pspsearch.model.contract import Fit, InputShape
from tests.pictures import encode, encode_png, encode_turned, encode_ycck, load_photo

SHAPE = InputShape(96, 128)
PHOTO = load_photo(200, 150)
DEEP = (np.arange(200 * 150, dtype=np.uint32) * 7 % 65536).astype(np.uint16).reshape(150, 200, 1)
KINDS = {
    "jpeg": encode(PHOTO, quality=95),
    "cmyk": encode(PHOTO.convert("CMYK"), quality=95),
    "ycck": encode_ycck(PHOTO),
    "png": encode(PHOTO, "PNG"),
    "palette": encode(PHOTO.quantize(16), "PNG", transparency=0),
    "alpha": encode(PHOTO.convert("RGBA"), "WEBP", lossless=True),
    "grey-16": encode_png(DEEP),
}


def mean_difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Mean absolute difference of two pixel arrays, in steps of 256."""
    return float(np.abs(one.astype(np.int16) - other.astype(np.int16)).mean())


@given(st.tuples(*[st.integers(0, 200)] * 2), st.tuples(*[st.integers(0, 150)] * 2), st.sampled_from(list(Fit)))
@settings(max_examples=100, derandomize=True, deadline=None, database=None)
def test_a_box_is_what_a_picture_of_that_part_would_be(
    across: tuple[int, int], down: tuple[int, int], fit: Fit
) -> None:
    """They agree to the bit: nothing around the box shows at its edges."""
    (left, right), (top, bottom) = sorted(across), sorted(down)
    if left == right or top == bottom:
        return
    shape = InputShape(48, 64, fit)

    boxed = decode_pixels(KINDS["png"], shape, box=Box(left, top, right, bottom, in_px=True))

    alone = encode(PHOTO.crop((left, top, right, bottom)), "PNG")
    assert np.array_equal(boxed, decode_pixels(alone, shape))


@pytest.mark.parametrize("fit", Fit)
@pytest.mark.parametrize("kind", KINDS)
def test_a_box_around_everything_changes_nothing(kind: str, fit: Fit) -> None:
    """To the bit, in fractions and in pixels."""
    shape = InputShape(96, 96, fit)
    whole = decode_pixels(KINDS[kind], shape)

    assert np.array_equal(decode_pixels(KINDS[kind], shape, box=Box(0, 0, 1, 1)), whole)
    assert np.array_equal(decode_pixels(KINDS[kind], shape, box=Box(0, 0, 200, 150, in_px=True)), whole)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_picture_has_boxes(kind: str) -> None:
    """A quarter of it is what a lossless picture of that quarter gives, within the rounding of JPEG's colours."""
    full = decode_pixels(KINDS[kind], InputShape(150, 200))
    quarter = encode(Image.fromarray(full[75:, 100:]), "PNG")

    boxed = decode_pixels(KINDS[kind], SHAPE, box=Box(0.5, 0.5, 1, 1))

    assert mean_difference(boxed, decode_pixels(quarter, SHAPE)) < 1


@pytest.mark.parametrize("fit", Fit)
@pytest.mark.parametrize(("kind", "tolerance"), [("JPEG", 2.5), ("PNG", 0.3)])
@pytest.mark.parametrize("box", [Box(0.1, 0.2, 0.5, 0.9), Box(30, 20, 190, 60, in_px=True)])
def test_a_box_is_of_the_picture_as_it_is_shown(box: Box, kind: str, tolerance: float, fit: Fit) -> None:
    """However the camera was held. JPEG loses something else in each direction, and a box enlarges that."""
    shape = InputShape(96, 128, fit)
    upright = decode_pixels(encode_turned(PHOTO, 1, kind, quality=95), shape, box=box)

    for orientation in range(2, 9):
        turned = decode_pixels(encode_turned(PHOTO, orientation, kind, quality=95), shape, box=box)
        assert mean_difference(turned, upright) < tolerance, orientation


@pytest.mark.parametrize("side", [0.08, 0.15, 0.25, 0.5, 0.8])
def test_a_jpeg_is_decoded_as_large_as_its_box_needs(side: float) -> None:
    """A picture of that part gives the same within 3 of 255, as scaled decoding does for whole pictures."""
    photo = load_photo(2000, 1500)
    box = Box(0.1, 0.1, 0.1 + side, 0.1 + side)
    part = photo.crop((200, 150, 200 + round(2000 * side), 150 + round(1500 * side)))

    boxed = decode_pixels(encode(photo, quality=90), SHAPE, box=box)

    assert mean_difference(boxed, decode_pixels(encode(part, "PNG"), SHAPE)) < 3


@given(*[st.floats(0, 1, width=32)] * 4, *[st.integers(1, 300)] * 2, st.sampled_from(list(Fit)), st.integers(1, 8))
@settings(max_examples=200, derandomize=True, deadline=None, database=None)
def test_no_box_trips_over_its_own_rounding(
    one: float, other: float, third: float, fourth: float, width: int, height: int, fit: Fit, orientation: int
) -> None:
    """A grey picture stays grey wherever the box lies, or the box is refused."""
    data = encode(Image.new("L", (width, height), 128), orientation=orientation)
    try:
        box = Box(min(one, other), min(third, fourth), max(one, other), max(third, fourth))
        pixels = decode_pixels(data, InputShape(24, 32, fit), box=box)
    except InvalidRequest as error:
        assert "the box" in str(error)  # noqa: PT017 - not every box is refused
        return

    assert np.abs(pixels.astype(np.int16) - 128).max() <= 2  # JPEG's rounding


@pytest.mark.parametrize(
    ("sides", "in_px", "words"),
    [
        ((nan, 0, 1, 1), False, "the box nan,0,1,1 has a number that is not finite"),
        ((0, 0, 1, inf), True, "the box 0,0,1,infpx has a number that is not finite"),
        ((0, 0, 0, 0), False, "the box 0,0,0,0 is empty"),
        ((0.5, 0, 0.5, 1), False, "is empty"),
        ((0, 0.6, 1, 0.5), False, "is empty: right must be more than left, and bottom more than top"),
        ((-0.1, 0, 1, 1), False, "begins at 0"),
        ((0, -1, 10, 10), True, "begins at 0"),
        ((0, 0, 1.01, 1), False, "ends at 1"),
        ((0, 0, 100, 50), False, "pixels need in_px"),
    ],
)
def test_what_is_part_of_no_picture_is_refused(
    sides: tuple[float, float, float, float], in_px: bool, words: str
) -> None:
    """At once, and in one sentence."""
    with pytest.raises(InvalidRequest, match=words):
        Box(*sides, in_px)


@pytest.mark.parametrize(
    ("box", "words"),
    [
        (Box(0, 0, 201, 150, in_px=True), r"^the box 0,0,201,150px reaches beyond the picture, which has 200x150 px$"),
        (Box(0, 0, 200, 150.5, in_px=True), "beyond the picture"),
        (
            Box(0.5, 0, 0.504, 1),
            r"^the box 0.5,0,0.504,1 is smaller than a pixel of the picture, which has 200x150 px$",
        ),
        (Box(10, 10, 20, 10.5, in_px=True), "smaller than a pixel"),
    ],
)
def test_a_box_that_this_picture_does_not_have_is_refused(box: Box, words: str) -> None:
    """The sentence has the size of the picture as it is shown; what was there before is left as it is."""
    out = np.full((96, 128, 3), 7, np.uint8)

    with pytest.raises(InvalidRequest, match=words):
        decode_pixels(encode_turned(PHOTO, 6), SHAPE, out=out, box=box)

    assert (out == 7).all()


def test_one_pixel_is_enough() -> None:
    """Also if it was named by fractions, in float32 as they are sent."""
    for column in range(200):
        left, right = (float(np.float32(side / 200)) for side in (column, column + 1))
        pixels = decode_pixels(KINDS["png"], InputShape(4, 4), box=Box(left, 0, right, float(np.float32(1 / 150))))

        assert (pixels == np.asarray(PHOTO)[0, column]).all()
