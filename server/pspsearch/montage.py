"""Draws a query and its hits as one picture for people to look at."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from math import ceil, sqrt

from PIL import Image, ImageDraw, ImageFont

from pspsearch.errors import BadImage
from pspsearch.images.box import Box
from pspsearch.images.pixels import decode_pixels, read_facts
from pspsearch.model.contract import InputShape

_QUERY_PX = 320
_HIT_PX = 176
_LABEL_PX = 44
_GAP_PX = 14
_MARGIN_PX = 24
_HEADING_PX = 36
_FRAME_PX = 5
_BOX_PX = 3
_FEWEST_COLUMNS = 5

PAPER = (246, 245, 242)
_CARD = (255, 255, 255)
GREY = (205, 205, 203)
_LINE = (222, 220, 215)
INK = (38, 40, 46)
_PALE_INK = (112, 114, 120)
ACCENT = (226, 94, 38)

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, slots=True)
class MontageHit:
    """One hit as it is drawn."""

    id: str
    score: float
    image: bytes | None
    """Encoded; a grey card stands in if there is none, or if it cannot be read."""


def draw_montage(query: bytes | None, hits: Sequence[MontageHit], box: Box | None = None) -> bytes:
    """Returns a PNG: the query, larger and framed, on the left; the hits in rows, best first, with rank, id and score.

    Every picture is shown whole and upright, and the box of the query is drawn into it. A query without an image is a
    grey card, too.
    """
    columns = _count_columns(len(hits))
    canvas = Image.new("RGB", _measure(len(hits), columns), PAPER)
    pen = ImageDraw.Draw(canvas)
    _draw_query(canvas, pen, query, box)
    left = 2 * _MARGIN_PX + _QUERY_PX
    heading = f"{len(hits)} hits" if len(hits) != 1 else "1 hit"
    pen.text((left, _MARGIN_PX), heading if hits else "no hits", INK, font(20))
    for place, hit in enumerate(hits):
        x = left + place % columns * (_HIT_PX + _GAP_PX)
        y = _MARGIN_PX + _HEADING_PX + place // columns * (_HIT_PX + _LABEL_PX + _GAP_PX)
        _draw_hit(canvas, pen, (x, y), place + 1, hit)
    encoded = BytesIO()
    canvas.save(encoded, "PNG")
    return encoded.getvalue()


def _count_columns(hits: int) -> int:
    """One row for up to five hits; for more, a grid that is somewhat wider than high."""
    return max(1, min(hits, _FEWEST_COLUMNS), ceil(sqrt(1.6 * hits)) if hits > _FEWEST_COLUMNS else 0)


def _measure(hits: int, columns: int) -> tuple[int, int]:
    """Width and height of the whole picture in px."""
    rows = max(1, ceil(hits / columns))
    grid = columns * (_HIT_PX + _GAP_PX) - _GAP_PX, rows * (_HIT_PX + _LABEL_PX + _GAP_PX) - _GAP_PX
    return 3 * _MARGIN_PX + _QUERY_PX + grid[0], 2 * _MARGIN_PX + _HEADING_PX + max(_QUERY_PX, grid[1])


def _draw_query(canvas: Image.Image, pen: ImageDraw.ImageDraw, query: bytes | None, box: Box | None) -> None:
    left, top = _MARGIN_PX, _MARGIN_PX + _HEADING_PX
    pen.text((left, _MARGIN_PX), "query", ACCENT, font(20))
    pen.rectangle((left, top, left + _QUERY_PX - 1, top + _QUERY_PX - 1), _CARD, ACCENT, _FRAME_PX)
    inner = (left + _FRAME_PX, top + _FRAME_PX)
    _draw_image(canvas, pen, inner, _QUERY_PX - 2 * _FRAME_PX, query, "no image", box)


def _draw_hit(
    canvas: Image.Image, pen: ImageDraw.ImageDraw, corner: tuple[int, int], rank: int, hit: MontageHit
) -> None:
    x, y = corner
    pen.rectangle((x - 1, y - 1, x + _HIT_PX, y + _HIT_PX + _LABEL_PX), _CARD, _LINE)
    name = shorten(hit.id, font(14), _HIT_PX - 16)
    _draw_image(canvas, pen, corner, _HIT_PX, hit.image, name)
    below = y + _HIT_PX + 5
    pen.text((x + 8, below), name, INK, font(14))
    pen.text((x + 8, below + 18), f"{rank}", _PALE_INK, font(14))
    pen.text((x + _HIT_PX - 8, below + 18), f"{hit.score:.3f}", ACCENT, font(14), anchor="ra")


def _draw_image(
    canvas: Image.Image,
    pen: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    side_px: int,
    image: bytes | None,
    stand_in: str,
    box: Box | None = None,
) -> None:
    """The whole image in the middle of a square, or a grey square with a word."""
    x, y = corner
    picture = decode_upright(image, side_px, box) if image is not None else None
    if picture is None:
        pen.rectangle((x, y, x + side_px - 1, y + side_px - 1), GREY)
        pen.text((x + side_px // 2, y + side_px // 2), stand_in, _PALE_INK, font(14), anchor="mm")
    else:
        canvas.paste(picture, (x + (side_px - picture.width) // 2, y + (side_px - picture.height) // 2))


def decode_upright(image: bytes, side_px: int, box: Box | None = None) -> Image.Image | None:
    """Decodes the image upright, with its longer side `side_px`, and draws its box; None if it cannot be read."""
    try:
        width, height = read_facts(image).upright
        scale = side_px / max(width, height)
        shape = InputShape(max(1, round(height * scale)), max(1, round(width * scale)))
        picture = Image.fromarray(decode_pixels(image, shape))
    except BadImage:
        return None
    if box is not None:
        left, top, right, bottom = (side * scale for side in box.within(width, height))
        corners = (left, top, max(left, right - 1), max(top, bottom - 1))
        ImageDraw.Draw(picture).rectangle(corners, outline=ACCENT, width=_BOX_PX)
    return picture


def shorten(text: str, font: _Font, width_px: int) -> str:
    """The text, without its middle if it is too long."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    if font.getlength(text) <= width_px:
        return text
    kept = next(
        kept for kept in range(min(len(text), width_px), -1, -1) if font.getlength(_cut(text, kept)) <= width_px
    )
    return _cut(text, kept)


def _cut(text: str, kept: int) -> str:
    """So many letters of the text: half of them from its start, half from its end."""
    head = (kept + 1) // 2
    return f"{text[:head]}...{text[len(text) - kept + head :]}"


@cache
def font(size_px: int) -> _Font:
    """The font of all drawn text."""
    return ImageFont.load_default(size_px)
