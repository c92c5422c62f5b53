"""Boxes: the part of a picture that somebody means."""

from dataclasses import dataclass
from math import isfinite

from pspsearch.errors import InvalidRequest

Sides = tuple[float, float, float, float]
"""Left, top, right and bottom."""

_STEPS = 64
"""Sides are rounded to this part of a pixel, which is more than fractions in float32 lose of the largest pictures."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of a picture as it is shown, upright.

    Raises InvalidRequest if it is empty or not finite, or reaches beyond every picture.
    """

    left: float
    top: float
    right: float
    bottom: float
    in_px: bool = False
    """Whether the numbers are pixels. If not, they are fractions of the picture's width and height, from 0 to 1."""

    def __post_init__(self) -> None:
        if not all(map(isfinite, (self.left, self.top, self.right, self.bottom))):
            raise InvalidRequest(f"{self} has a number that is not finite")
        if self.right <= self.left or self.bottom <= self.top:
            raise InvalidRequest(f"{self} is empty: right must be more than left, and bottom more than top")
        if min(self.left, self.top) < 0:
            raise InvalidRequest(f"{self} reaches beyond the picture, which begins at 0")
        if not self.in_px and max(self.right, self.bottom) > 1:
            raise InvalidRequest(f"{self} reaches beyond the picture, which ends at 1; pixels need in_px")

    def __str__(self) -> str:
        numbers = ",".join(f"{number:g}" for number in (self.left, self.top, self.right, self.bottom))
        return f"the box {numbers}{'px' if self.in_px else ''}"

    def within(self, width_px: int, height_px: int) -> Sides:
        """Returns the sides in pixels of an upright picture of that size.

        Raises InvalidRequest if the box reaches beyond it, or is narrower or lower than one of its pixels.
        """
        across, down = (1, 1) if self.in_px else (width_px, height_px)
        exact = self.left * across, self.top * down, self.right * across, self.bottom * down
        left, top, right, bottom = (round(_STEPS * side) / _STEPS for side in exact)
        if right > width_px or bottom > height_px:
            raise InvalidRequest(f"{self} reaches beyond the picture, which has {width_px}x{height_px} px")
        if min(right - left, bottom - top) < 1:
            raise InvalidRequest(f"{self} is smaller than a pixel of the picture, which has {width_px}x{height_px} px")
        return left, top, right, bottom


def part(left: float, top: float, right: float, bottom: float, in_px: bool = False) -> Box | None:
    """Returns the box, or None if it is all of every picture. Raises InvalidRequest as Box does."""
    box = Box(left, top, right, bottom, in_px)
    return None if box == Box(0, 0, 1, 1) else box
