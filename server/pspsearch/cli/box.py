"""The option for a part of an image."""

from collections.abc import Callable
from pathlib import Path

import click

from pspsearch.client import Region
from pspsearch.errors import InvalidRequest
from pspsearch.images.box import Box


def box_option(name: str, of: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Adds an option for the part of an image that is meant."""
    return click.option(
        name,
        callback=_read,
        metavar="LEFT,TOP,RIGHT,BOTTOM",
        help=f"Only this part of {of}, in fractions of its width and height, or in pixels with `px` at the end.",
    )


def part_of(image: Path, box: Box | None) -> Path | Region:
    """The part of the image that is in the box, or all of it."""
    return image if box is None else Region(image, (box.left, box.top, box.right, box.bottom), box.in_px)


def _read(_context: click.Context, _option: click.Parameter, text: str | None) -> Box | None:
    if text is None:
        return None
    numbers = text.removesuffix("px")
    try:
        left, top, right, bottom = map(float, numbers.split(","))
    except ValueError:
        raise click.BadParameter(f"{text!r} is not four numbers, such as 0.1,0.2,0.5,0.9 or 40,30,600,420px") from None
    try:
        return Box(left, top, right, bottom, in_px=numbers != text)
    except InvalidRequest as error:
        raise click.BadParameter(str(error)) from error
