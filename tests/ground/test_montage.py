"""A query and its hits as one picture."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pspsearch.images.box import Box
from pspsearch.montage import MontageHit, draw_montage
from tests.pictures import encode, encode_turned

RED, GREEN, BLUE = (200, 30, 30), (30, 160, 30), (30, 30, 200)
GREY_CARD = (205, 205, 203)
CARD_PX = 176
NEARLY = 8
"""What JPEG changes of a plain colour at most, of 255."""

Colour = tuple[int, int, int]


def plain(colour: Colour, width_px: int = 64, height_px: int = 64) -> bytes:
    """An encoded image of one colour."""
    return encode(Image.new("RGB", (width_px, height_px), colour))


def look(montage: bytes) -> NDArray[np.int16]:
    """The pixels of a montage."""
    image = Image.open(BytesIO(montage))
    assert image.format == "PNG"
    return np.asarray(image.convert("RGB"), np.int16)


def find(pixels: NDArray[np.int16], colour: Colour) -> NDArray[np.bool_]:
    """Where that colour is, approximately."""
    return np.abs(pixels - np.array(colour, np.int16)).max(axis=2) <= NEARLY


def bounds(found: NDArray[np.bool_], least: int = 20) -> tuple[int, int, int, int]:
    """Left, top, width and height of what was found, in px, without rows and columns with less than `least` of it."""
    rows, columns = np.flatnonzero(found.sum(axis=1) >= least), np.flatnonzero(found.sum(axis=0) >= least)
    return int(columns[0]), int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1


def test_query_is_larger_and_left_of_the_hits() -> None:
    """A person sees at once what was asked and what was answered."""
    pixels = look(draw_montage(plain(RED), [MontageHit("one", 0.9, plain(GREEN)), MontageHit("two", 0.8, plain(BLUE))]))
    query, first, second = (bounds(find(pixels, colour)) for colour in (RED, GREEN, BLUE))

    assert query[2] == query[3] > 1.5 * CARD_PX
    assert first[2:] == second[2:] == (CARD_PX, CARD_PX)
    assert query[0] + query[2] < first[0] < first[0] + first[2] < second[0]
    assert first[1] == second[1]


def test_query_is_framed() -> None:
    """The frame goes all around the query, in a colour of its own."""
    pixels = look(draw_montage(plain(RED), []))
    left, top, width, height = bounds(find(pixels, RED))

    frame = pixels[top + height // 2, left - 3]

    assert np.ptp(frame) > 100
    for y, x in ((top - 3, left), (top + height + 2, left), (top, left + width + 2)):
        assert np.array_equal(pixels[y, x], frame)


@pytest.mark.parametrize("box", [Box(0.5, 0, 1, 0.5), Box(32, 0, 64, 16, in_px=True)])
def test_the_box_of_the_query_is_drawn(box: Box) -> None:
    """In the frame's colour, where it is in the picture as it is shown, which the file stores turned."""
    query = encode_turned(Image.new("RGB", (64, 32), RED), 6)
    without, with_box = (look(draw_montage(query, [], one)) for one in (None, box))
    left, top, width, height = bounds(find(without, RED))

    drawn = (without != with_box).any(axis=2)

    assert bounds(drawn, 1) == pytest.approx((left + width / 2, top, width / 2, height / 2), abs=1)  # rounding
    assert not drawn[top + height // 4, left + width * 3 // 4]
    assert np.array_equal(with_box[drawn][0], without[top + height // 2, left - 3])


@pytest.mark.parametrize("count", [0, 1, 5, 6, 18])
def test_every_hit_is_whole(count: int) -> None:
    """No card lies over another one or beyond the border, however many there are."""
    colours: list[Colour] = [(20 + 40 * (n % 6), 20 + 40 * (n // 6), 130) for n in range(count)]
    hits = [MontageHit(f"item-{n}", 0.5, plain(colour)) for n, colour in enumerate(colours)]

    pixels = look(draw_montage(plain(RED), hits))

    for colour in colours:
        assert bounds(find(pixels, colour))[2:] == (CARD_PX, CARD_PX)


def test_hits_go_row_by_row() -> None:
    """The best hit is at the upper left, and a later one never stands before an earlier one."""
    colours: list[Colour] = [(20 + 30 * n, 60, 130) for n in range(7)]
    hits = [MontageHit(f"item-{n}", 0.5, plain(colour)) for n, colour in enumerate(colours)]

    pixels = look(draw_montage(plain(RED), hits))

    places = [bounds(find(pixels, colour))[1::-1] for colour in colours]
    assert places == sorted(places)
    assert len({row for row, _ in places}) == 2


@pytest.mark.parametrize("image", [None, b"", b"no image", plain(GREEN)[:200]], ids=["none", "empty", "text", "cut"])
def test_unreadable_hit_is_a_grey_card(image: bytes | None) -> None:
    """It does not hide the others, and it says which item it is."""
    hits = [MontageHit("broken", 0.9, image), MontageHit("sound", 0.8, plain(BLUE))]

    pixels = look(draw_montage(plain(RED), hits))

    card = bounds(find(pixels, GREY_CARD))
    middle = pixels[card[1] + CARD_PX // 2 - 12 : card[1] + CARD_PX // 2 + 12, card[0] : card[0] + CARD_PX]
    assert card[2:] == (CARD_PX, CARD_PX)
    assert middle.min() < 150
    assert bounds(find(pixels, BLUE))[2:] == (CARD_PX, CARD_PX)


@pytest.mark.parametrize("query", [None, b"no image"])
def test_query_without_an_image_is_a_grey_card(query: bytes | None) -> None:
    """A search by id or descriptor has a montage, too."""
    pixels = look(draw_montage(query, [MontageHit("one", 0.9, plain(BLUE))]))

    assert bounds(find(pixels, GREY_CARD))[2] > 1.5 * CARD_PX


def test_wide_image_is_shown_whole() -> None:
    """Its sides are not cut off, nor is it squashed."""
    wide = Image.new("RGB", (300, 100), RED)
    wide.paste(BLUE, (150, 0, 300, 100))

    pixels = look(draw_montage(None, [MontageHit("wide", 0.9, encode(wide, "PNG"))]))

    red, blue = bounds(find(pixels, RED)), bounds(find(pixels, BLUE))
    assert red[2] + blue[2] == pytest.approx(CARD_PX, abs=4)  # the colours mix at the border
    assert red[3] == blue[3] == round(CARD_PX / 3)


def test_image_is_upright() -> None:
    """The image is drawn as the camera was held, not as it stored the picture."""
    image = Image.new("RGB", (200, 200), RED)
    image.paste(BLUE, (0, 100, 200, 200))

    pixels = look(draw_montage(None, [MontageHit("turned", 0.9, encode_turned(image, 6, "PNG"))]))

    red, blue = bounds(find(pixels, RED)), bounds(find(pixels, BLUE))
    assert red[0] == blue[0]
    assert red[1] < blue[1]


def draw_labels(hits: Sequence[tuple[str, float]]) -> NDArray[np.int16]:
    """A montage of blue cards with these ids and scores."""
    return look(draw_montage(plain(RED), [MontageHit(id_, score, plain(BLUE)) for id_, score in hits]))


def test_id_and_score_stand_below_the_image() -> None:
    """Another id changes the upper line, another score the right half of the lower one, and nothing else."""
    left, top, width, height = bounds(find(draw_labels([("mug-01/1", 0.5)]), BLUE))
    first, other_id, other_score = (
        draw_labels([hit]) for hit in [("mug-01/1", 0.5), ("cup-01/1", 0.5), ("mug-01/1", 0.9)]
    )

    id_line = bounds((first != other_id).any(axis=2), 1)
    score_line = bounds((first != other_score).any(axis=2), 1)

    assert top + height <= id_line[1] < id_line[1] + id_line[3] <= score_line[1]
    assert left <= id_line[0]
    assert left + width / 2 < score_line[0] < score_line[0] + score_line[2] <= left + width


@pytest.mark.parametrize("id_", ["x" * 500, "W" * 512, "a/b\nc\td\x7f", "\N{GRINNING FACE}" * 40, "日本語" * 30, ""])
def test_odd_id_stays_on_its_card(id_: str) -> None:
    """Long ids lose their middle; line breaks and strange letters disturb no neighbour."""
    usual = draw_labels([("one", 0.5), ("two", 0.5)])
    odd = draw_labels([(id_, 0.5), ("two", 0.5)])
    left, _, width, _ = bounds(find(draw_labels([("one", 0.5)]), BLUE))

    changed = bounds((usual != odd).any(axis=2), 1)

    assert left <= changed[0]
    assert changed[0] + changed[2] <= left + width
    assert changed[3] < 24


def test_long_id_keeps_its_ends() -> None:
    """Of two long ids that differ only at the end, or only at the start, the labels differ."""
    middle = "/photographs/of/the/year/before/last/"
    labels = [draw_labels([(id_, 0.5)]) for id_ in (f"a{middle}1", f"a{middle}2", f"b{middle}1")]

    assert not np.array_equal(labels[0], labels[1])
    assert not np.array_equal(labels[0], labels[2])
