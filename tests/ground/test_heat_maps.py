"""Why a hit is a hit, as one picture."""

from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pspsearch.client import Area, CellPair, Explanation, Origin, Shares, Timing
from pspsearch.heat_maps import draw_explanation
from pspsearch.images.pixels import seen_part
from pspsearch.model.contract import Fit, InputShape
from tests.pictures import encode

WHOLE = Area(0, 0, 1, 1)
GREY = 120
SIDE_PX = 400
QUERY, ITEM = (24, 58), (24 + 400 + 48, 58)
"""Where the two pictures begin, in px."""


def plain(width_px: int = 80, height_px: int = 80) -> bytes:
    """A grey picture."""
    return encode(Image.new("RGB", (width_px, height_px), (GREY, GREY, GREY)), "PNG")


def shares(*rows: tuple[float, ...], seen: Area = WHOLE) -> Shares:
    """A grid of shares."""
    return Shares(np.array(rows, np.float32), 0.01, seen)


def draw(
    query: Shares | None, item: Shares | None, *pairs: CellPair, images: tuple[bytes | None, bytes | None] | None = None
) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """The pixels of the two pictures."""
    explanation = Explanation(0.5, query, item, pairs, Origin("m", 1, "f", 1), Timing(0, 0, 0, 0, 0))
    drawn = Image.open(BytesIO(draw_explanation(explanation, "an id", *(images or (plain(), plain())))))
    pixels = np.asarray(drawn.convert("RGB"), np.int16)
    left, right = (pixels[y : y + SIDE_PX, x : x + SIDE_PX] for x, y in (QUERY, ITEM))
    return left, right


def redness(pixels: NDArray[np.int16]) -> NDArray[np.float64]:
    """How much more red than blue there is in each quarter: above, below, left to right."""
    more = pixels[..., 0] - pixels[..., 2]
    half = SIDE_PX // 2
    return np.array([[more[y : y + half, x : x + half].mean() for x in (0, half)] for y in (0, half)])


def test_what_speaks_for_the_hit_is_red_and_what_speaks_against_it_blue() -> None:
    """Each picture has its own heat map, and a cell that gives nothing is left as it is."""
    left, right = draw(shares((0.4, 0), (0, 0.1)), shares((0, 0), (-0.1, 0.4)))

    assert redness(left).argmax() == 0
    assert redness(right).argmax() == 3
    assert redness(right)[1, 0] < -5
    assert np.array_equal(right[10, 10], [GREY] * 3)


def test_what_the_model_did_not_see_is_pale() -> None:
    """The heat map lies on the middle of a wide picture, if only that was seen."""
    wide = plain(80, 40)
    left, _ = draw(shares((0.1,), seen=Area(0.25, 0, 0.75, 1)), None, images=(wide, wide))
    middle, edge = left[SIDE_PX // 2, SIDE_PX // 2], left[SIDE_PX // 2, 10]

    assert middle[0] - middle[2] > 50
    assert edge.min() > GREY + 40
    assert np.ptp(edge) < 10


def test_cells_beyond_the_picture_are_not_drawn() -> None:
    """With padding, the upper and the lower cells of a wide picture lie outside of it."""
    wide = plain(80, 40)
    tall = Area(0, -0.5, 1, 1.5)
    left, _ = draw(shares((0.9,), (0,), (0,), (0,), seen=tall), None, images=(wide, wide))
    inside = left[SIDE_PX // 2]
    above = left[SIDE_PX // 8]

    assert np.ptp(above - left[2]) == 0
    assert np.abs(inside - GREY).max() < 10


@pytest.mark.parametrize("size", [(1, 1), (2000, 1), (1, 2000)])
@pytest.mark.parametrize("fit", Fit)
def test_slimmest_pictures_are_drawn(size: tuple[int, int], fit: Fit) -> None:
    """Whatever part of them the model saw."""
    slim = plain(*size)
    seen = seen_part(slim, InputShape(32, 32, fit))

    left, _ = draw(shares((0.1, 0.1), seen=seen), None, images=(slim, None))

    assert left.shape == (SIDE_PX, SIDE_PX, 3)


def test_lines_join_the_best_pairs() -> None:
    """They go from the middle of one cell to the middle of the other; without pairs there is none."""
    cell, other = Area(0, 0, 0.5, 0.5), Area(0.5, 0.5, 1, 1)
    even = shares((0.0, 0.0), (0.0, 0.0))
    left, right = draw(even, even, CellPair(cell, other, 0.9))
    bare, _ = draw(even, even)

    for pixels, row, columns in ((left, SIDE_PX // 4, slice(90, 110)), (right, 3 * SIDE_PX // 4, slice(290, 310))):
        beside = pixels[row - 4 : row + 4, columns]
        assert (beside.max(), beside.min()) == (255, 38)
    assert np.abs(bare - GREY).max() == 0


@pytest.mark.parametrize("image", [None, b"no image"])
def test_picture_that_is_not_there_is_a_grey_card(image: bytes | None) -> None:
    """The other one is drawn all the same."""
    left, right = draw(None, shares((0.1,)), images=(image, plain()))

    assert np.array_equal(left[5, 5], (205, 205, 203))
    assert redness(right).min() > 50
