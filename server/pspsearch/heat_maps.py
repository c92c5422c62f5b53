"""Draws why a hit is a hit as one picture for people to look at."""

from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw

from pspsearch.client.types import Explanation, Shares
from pspsearch.domain import Area, CellPair
from pspsearch.montage import ACCENT, GREY, INK, PAPER, decode_upright, font, shorten

_SIDE_PX = 400
_MARGIN_PX = 24
_LINE_PX = 34
_GAP_PX = 2 * _MARGIN_PX
_PAIRS = 5
"""How many pairs of cells are joined by a line."""

_FOR, _AGAINST = (226, 60, 20), (30, 80, 220)
_STRONGEST = 170
"""How much the best cell is covered with colour, of 255."""
_PALE = 150
"""How much of what the model did not see is covered with paper, of 255."""

_Place = tuple[int, int, int, int]
"""Left, top, width and height of a picture on the canvas, in px."""


def draw_explanation(explanation: Explanation, item_id: str, query: bytes | None, item: bytes | None) -> bytes:
    """Returns a PNG: the query's picture on the left, the item's on the right, each whole and upright.

    The redder a cell, the more it gives to the score; blue ones speak against it. What the model did not see is pale.
    Lines join the best pairs of cells. A grey card stands in for an image that is None or cannot be read.
    """
    canvas = Image.new(
        "RGB", (2 * _MARGIN_PX + 2 * _SIDE_PX + _GAP_PX, 2 * _MARGIN_PX + _SIDE_PX + 2 * _LINE_PX), PAPER
    )
    left, right = _MARGIN_PX, _MARGIN_PX + _SIDE_PX + _GAP_PX
    pen = ImageDraw.Draw(canvas)
    pen.text((left, _MARGIN_PX), "query", ACCENT, font(20))
    score = f"{explanation.score:.4f}"
    pen.text((right + _SIDE_PX, _MARGIN_PX), score, ACCENT, font(20), anchor="ra")
    pen.text((right, _MARGIN_PX), shorten(item_id, font(20), _SIDE_PX - 100), INK, font(20))
    here = _draw_side(canvas, pen, left, query, explanation.query)
    there = _draw_side(canvas, pen, right, item, explanation.item)
    if here is not None and there is not None:
        for pair in explanation.pairs[:_PAIRS]:
            _join(pen, pair, here, there)
    encoded = BytesIO()
    canvas.save(encoded, "PNG")
    return encoded.getvalue()


def _draw_side(
    canvas: Image.Image, pen: ImageDraw.ImageDraw, left: int, image: bytes | None, shares: Shares | None
) -> _Place | None:
    """Draws one picture under its heat map, and returns where it is; None if there is no picture."""
    top = _MARGIN_PX + _LINE_PX
    picture = decode_upright(image, _SIDE_PX) if image is not None else None
    if picture is None:
        pen.rectangle((left, top, left + _SIDE_PX - 1, top + _SIDE_PX - 1), GREY)
        pen.text((left + _SIDE_PX // 2, top + _SIDE_PX // 2), "no picture", INK, font(20), anchor="mm")
        return None
    if shares is not None:
        _paint(picture, shares)
        words = f"cells {shares.shares.sum():.4f}, remainder {shares.remainder:.4f}"
        pen.text((left, top + _SIDE_PX + 10), words, INK, font(14))
    x, y = left + (_SIDE_PX - picture.width) // 2, top + (_SIDE_PX - picture.height) // 2
    canvas.paste(picture, (x, y))
    return x, y, picture.width, picture.height


def _paint(picture: Image.Image, shares: Shares) -> None:
    """Lays the heat map over the part of the picture that the model saw, and paper over the rest."""
    left, top, right, bottom = _scale(shares.seen, (0, 0, *picture.size))
    strongest = max(float(np.abs(shares.shares).max()), 1e-9)
    unseen = Image.new("L", picture.size, _PALE)
    unseen.paste(0, (left, top, right, bottom))
    picture.paste(PAPER, (0, 0), unseen)
    for colour, parts in ((_FOR, shares.shares), (_AGAINST, -shares.shares)):
        levels = np.clip(parts / strongest, 0, 1) * _STRONGEST
        size = max(1, right - left), max(1, bottom - top)  # the model sees less than a pixel of a slim picture
        heat = Image.fromarray(levels.astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)
        mask = Image.new("L", picture.size)
        mask.paste(heat, (left, top))
        picture.paste(colour, (0, 0), mask)


def _join(pen: ImageDraw.ImageDraw, pair: CellPair, here: _Place, there: _Place) -> None:
    one, other = _scale(pair.query, here), _scale(pair.item, there)
    ends = [((left + right) / 2, (top + bottom) / 2) for left, top, right, bottom in (one, other)]
    for colour, width in ((INK, 4), ((255, 255, 255), 2)):
        pen.line(ends, colour, width)
        for box in (one, other):
            pen.rectangle(box, outline=colour, width=width)


def _scale(area: Area, place: _Place) -> tuple[int, int, int, int]:
    """Where an area of the picture is on the canvas: left, top, right and bottom, in px."""
    x, y, width, height = place
    left, top, right, bottom = area
    return round(x + left * width), round(y + top * height), round(x + right * width), round(y + bottom * height)
