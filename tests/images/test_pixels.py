"""Compares decoding with a plain reference: formats, modes, orientations, fits, scaled decoding, buffers, threads."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pspsearch.images.pixels import decode_pixels, seen_part
from pspsearch.model.contract import Fit, InputShape
from tests.pictures import encode, encode_png, encode_turned, encode_ycck, load_photo

Pixels = NDArray[np.uint8]

SHAPE = InputShape(96, 128)
PHOTO = load_photo(200, 150)
ALPHA = np.linspace(0, 255, 200 * 150).reshape(150, 200).astype(np.uint8)
DEEP = (np.arange(200 * 150 * 3, dtype=np.uint32) * 7 % 65536).astype(np.uint16).reshape(150, 200, 3)


def fit_plainly(image: Image.Image, shape: InputShape = SHAPE) -> Pixels:
    """Does the same work with Pillow's own functions, one after the other, at full size."""
    rgb = ImageOps.exif_transpose(image).convert("RGB")
    size = (shape.width_px, shape.height_px)
    if shape.fit is Fit.CROP:
        return np.asarray(ImageOps.fit(rgb, size, Image.Resampling.BILINEAR))
    if shape.fit is Fit.PAD:
        return np.asarray(ImageOps.pad(rgb, size, Image.Resampling.BILINEAR, (128, 128, 128)))
    return np.asarray(rgb.resize(size, Image.Resampling.BILINEAR))


def over_white(image: Image.Image) -> Image.Image:
    """What a viewer with a white background shows of a transparent picture."""
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def mean_difference(one: Pixels, other: Pixels) -> float:
    """Mean absolute difference of two pixel arrays, in steps of 256."""
    return float(np.abs(one.astype(np.int16) - other.astype(np.int16)).mean())


def palette_with_a_hole() -> Image.Image:
    """A palette picture whose most frequent colour is transparent."""
    image = PHOTO.quantize(16)
    image.info["transparency"] = 0
    return image


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_colour_and_grey_of_every_format_are_read(kind: str, mode: str) -> None:
    """They are read as by Pillow at full size; both use the same decoders, so 0.5 allows for other versions only."""
    data = encode(PHOTO.convert(mode), kind)

    assert mean_difference(decode_pixels(data, SHAPE), fit_plainly(Image.open(BytesIO(data)))) < 0.5


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (encode(PHOTO.convert("1"), "PNG"), PHOTO.convert("1")),
        (encode(PHOTO.quantize(16), "PNG"), PHOTO.quantize(16)),
        (encode(palette_with_a_hole(), "PNG"), over_white(palette_with_a_hole())),
        (encode_png(DEEP[:, :, :1]), Image.fromarray((DEEP[:, :, 0] >> 8).astype(np.uint8))),
        (encode_png(DEEP), Image.fromarray((DEEP >> 8).astype(np.uint8))),
        (encode(PHOTO, "JPEG", progressive=True, quality=95), PHOTO),
        (encode(PHOTO.convert("CMYK"), quality=95), PHOTO),
        (encode_ycck(PHOTO), PHOTO),
        (encode(PHOTO, "WEBP", lossless=True), PHOTO),
    ],
    ids=["1-bit", "palette", "palette-hole", "grey-16", "rgb-16", "progressive", "cmyk", "ycck", "webp-lossless"],
)
def test_rare_kinds_of_picture_look_as_they_should(data: bytes, shown: Image.Image) -> None:
    """They are within 3 of 255 of what was drawn, JPEG's loss at quality 95; lossless ones agree within rounding."""
    assert mean_difference(decode_pixels(data, SHAPE), fit_plainly(shown)) < (
        3 if data.startswith(b"\xff\xd8") else 0.5
    )


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_shown_over_white(kind: str, mode: str) -> None:
    """Compositing before or after the resize agrees but for rounding, once per step: at most 3, and 1 on average."""
    image = PHOTO.convert("L" if mode == "LA" else "RGB")
    image.putalpha(Image.fromarray(ALPHA))
    data = encode(image, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))

    pixels, reference = decode_pixels(data, SHAPE), fit_plainly(over_white(image))

    assert mean_difference(pixels, reference) < 1
    assert int(np.abs(pixels.astype(np.int16) - reference).max()) <= 3


def test_a_colour_declared_transparent_is_shown_over_white() -> None:
    """PNG's tRNS chunk also marks one colour of a grey or RGB picture."""
    image = Image.new("RGB", (64, 64), (200, 10, 10))
    data = encode(image, "PNG", transparency=(200, 10, 10))

    assert (decode_pixels(data, SHAPE) == 255).all()


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "MPO"])
def test_the_first_of_several_pictures_is_taken(kind: str) -> None:
    """Animations give their first frame; a JPEG with more pictures behind it gives the photograph in front."""
    others = [load_photo(200, 150, number=1), Image.new("RGB", (200, 150), "red")]
    data = encode(PHOTO, kind, save_all=True, append_images=others)

    alone = encode(PHOTO, "JPEG" if kind == "MPO" else kind)
    difference = mean_difference(decode_pixels(data, SHAPE), decode_pixels(alone, SHAPE))
    assert difference < (2.5 if kind == "WEBP" else 0.01)  # WebP's encoder treats a frame a little differently


@pytest.mark.parametrize("fit", Fit)
@pytest.mark.parametrize(("kind", "tolerance"), [("JPEG", 2.0), ("PNG", 0.3), ("WEBP", 2.0)])
def test_the_eight_orientations_of_one_picture_agree(kind: str, tolerance: float, fit: Fit) -> None:
    """Lossless ones agree but for the order of two rounded passes; lossy ones were encoded in another direction."""
    shape = InputShape(96, 128, fit)
    upright = decode_pixels(encode_turned(PHOTO, 1, kind, quality=95), shape)

    for orientation in range(2, 9):
        turned = decode_pixels(encode_turned(PHOTO, orientation, kind, quality=95), shape)
        assert mean_difference(turned, upright) < tolerance


@pytest.mark.parametrize("size", [(128, 96), (96, 128), (200, 40), (41, 199), (31, 29)])
@pytest.mark.parametrize("fit", Fit)
def test_every_fit_agrees_with_the_plain_way(size: tuple[int, int], fit: Fit) -> None:
    """The fits agree for shrinking and enlarging, into wide and tall rectangles.

    The bound is 0.1 for the rounding of the crop's edges, and 0.8 if a picture becomes more than 4 times smaller,
    because Pillow may then shrink it by a whole factor first.
    """
    shape = InputShape(height_px=size[1], width_px=size[0], fit=fit)
    data = encode(PHOTO, "PNG")
    plain = fit_plainly(PHOTO, shape)
    tolerance = 0.8 if min(size) < 200 / 4 else 0.1

    pixels = decode_pixels(data, shape)

    assert pixels.shape == (size[1], size[0], 3)
    # if the margin is odd, Pillow rounds to even and we down: the picture may sit one pixel off
    shifted = (np.roll(plain, shift, axis) for axis in (0, 1) for shift in (0, -1))
    assert min(mean_difference(pixels, other) for other in shifted) < tolerance


def test_crop_keeps_the_middle_and_loses_only_the_longer_sides() -> None:
    """A green square in the middle of a red strip fills a square input, but for what antialiasing takes at its edge."""
    strip = Image.new("RGB", (300, 100), "red")
    strip.paste((0, 255, 0), (100, 0, 200, 100))

    pixels = decode_pixels(encode(strip, "PNG"), InputShape(50, 50, Fit.CROP))

    assert (pixels[:, 1:-1] == (0, 255, 0)).all()


def test_pad_centres_the_whole_picture_on_mid_grey() -> None:
    """A strip twice as wide as high takes the middle half of a square input."""
    pixels = decode_pixels(encode(Image.new("RGB", (200, 100), "white"), "PNG"), InputShape(64, 64, Fit.PAD))

    assert (pixels[16:48] == 255).all()
    assert (pixels[:16] == 128).all()
    assert (pixels[48:] == 128).all()


@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
@pytest.mark.parametrize("size", [(120, 120), (200, 100), (80, 240)])
@pytest.mark.parametrize("fit", Fit)
def test_seen_part_says_where_a_pixel_was_in_the_picture(size: tuple[int, int], fit: Fit, orientation: int) -> None:
    """Red tells how far to the right a place is, green how far down; the camera may have been held in any way."""
    across, down = np.meshgrid(*(np.linspace(0, 255, length) for length in size))
    image = Image.fromarray(np.stack([across, down, 0 * down], axis=-1).astype(np.uint8))
    data = encode_turned(image, orientation, "PNG")
    shape = InputShape(height_px=90, width_px=120, fit=fit)

    seen = seen_part(data, shape)
    pixels = decode_pixels(data, shape)

    for x, y in ((0.4, 0.4), (0.6, 0.55)):
        red, green, _ = pixels[round(y * shape.height_px), round(x * shape.width_px)] / 255
        assert red == pytest.approx(seen.left + x * (seen.right - seen.left), abs=0.03)  # a pixel or two
        assert green == pytest.approx(seen.top + y * (seen.bottom - seen.top), abs=0.03)
    assert (seen == (0, 0, 1, 1)) is (fit is Fit.SQUASH)
    assert (max(seen) > 1) is (fit is Fit.PAD)


@pytest.mark.parametrize("fit", Fit)
@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (3, 7)])
def test_the_smallest_and_the_slimmest_pictures_are_fitted(size: tuple[int, int], fit: Fit) -> None:
    """A picture of one colour keeps it, whatever its shape; 2 of 255 are JPEG's rounding."""
    for kind in ("JPEG", "PNG", "WEBP"):
        pixels = decode_pixels(encode(Image.new("RGB", size, (128, 128, 128)), kind), InputShape(24, 32, fit))
        assert np.abs(pixels.astype(np.int16) - 128).max() <= 2


@given(*[st.integers(1, 300)] * 4, st.sampled_from(list(Fit)), st.sampled_from(["JPEG", "PNG"]))
@example(239, 241, 21, 234, Fit.CROP, "JPEG")
@example(573, 41, 128, 93, Fit.CROP, "PNG")
@settings(max_examples=200, derandomize=True, deadline=None, database=None)
def test_no_pair_of_sizes_trips_over_its_own_rounding(
    width: int, height: int, out_width: int, out_height: int, fit: Fit, kind: str
) -> None:
    """Fractions of a pixel never reach beyond the picture: a grey picture stays grey."""
    data = encode(Image.new("L", (width, height), 128), kind)

    pixels = decode_pixels(data, InputShape(out_height, out_width, fit))

    assert np.abs(pixels.astype(np.int16) - 128).max() <= 2  # JPEG's rounding


@pytest.mark.parametrize("eighths", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("number", [0, 1])
def test_scaled_decoding_looks_like_full_decoding(eighths: int, number: int) -> None:
    """The two are within 3 of 255 on average, at the worst ratio for each scale, where hardly any resizing is left.

    Measured here: 0.3 to 2.8. Another antialiasing filter makes 1 to 2, one pixel of shift 8 to 15.
    """
    photo = load_photo(640, 427, number)
    data = encode(photo, quality=90)
    shape = InputShape(height_px=420 * eighths // 8, width_px=630 * eighths // 8)

    assert mean_difference(decode_pixels(data, shape), fit_plainly(Image.open(BytesIO(data)), shape)) < 3


def test_pixels_are_written_into_the_given_array() -> None:
    """A slot of a larger buffer is filled in place and given back."""
    slots = np.zeros((3, 96, 128, 3), np.uint8)
    data = encode(PHOTO)

    pixels = decode_pixels(data, SHAPE, out=slots[1])

    assert np.shares_memory(pixels, slots[1])
    assert np.array_equal(slots[1], decode_pixels(data, SHAPE))
    assert not slots[0].any()
    assert not slots[2].any()


def test_pixels_are_contiguous_and_writable() -> None:
    """What comes back can be sent and changed without a copy, also after a turn."""
    pixels = decode_pixels(encode(PHOTO, orientation=6), SHAPE)

    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable


def test_any_buffer_of_bytes_is_taken() -> None:
    """Bytes, a bytearray, a view and a view with gaps hold the same image."""
    data = encode(PHOTO)
    gaps = bytearray(2 * len(data))
    gaps[::2] = data
    expected = decode_pixels(data, SHAPE)

    for same in (bytearray(data), memoryview(data), memoryview(gaps)[::2]):
        assert np.array_equal(decode_pixels(same, SHAPE), expected)


def test_threads_give_what_one_thread_gives() -> None:
    """Images of every format, four at a time, agree bit by bit with one after the other."""
    images = [encode_turned(PHOTO, turn, kind) for turn in range(1, 9) for kind in ("JPEG", "PNG", "WEBP")]
    expected = [decode_pixels(data, SHAPE) for data in images]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(partial(decode_pixels, shape=SHAPE), images * 4))

    assert all(np.array_equal(pixels, expected[i % len(images)]) for i, pixels in enumerate(found))
