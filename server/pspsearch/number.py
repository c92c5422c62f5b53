"""Numbers in attributes and filters: whole ones of 64 bits are exact, and all others are doubles."""

import math
import re

LEAST, MOST = -(1 << 63), (1 << 64) - 1
"""Whole numbers between these, that is signed or unsigned ones of 64 bits, are kept exactly."""

_EXACT = 1 << 53
"""Below this, a double holds every whole number exactly."""
_DIGITS = 20
"""The number of digits of the longest whole number."""
_WHOLE = re.compile(r"(-?)(\d+)(\.0+)?")  # no `0*` before the digits: both would match zeros, in many ways


def read_number(text: str) -> int | float:
    """Reads a number as JSON or a filter spells it; ValueError, with the reason, if it cannot be told from others.

    Digits, even with a point and zeros, are a whole number. Any other fraction or an exponent makes the nearest double,
    as everywhere.
    """
    whole = _WHOLE.fullmatch(text)
    if whole is not None:
        digits = whole[2].lstrip("0") or "0"
        number = int(whole[1] + digits) if len(digits) <= _DIGITS else MOST + 1
        if not LEAST <= number <= MOST:
            raise ValueError(f"whole numbers are from {LEAST} to {MOST}")
        return float(text) if whole[3] and abs(number) < _EXACT else number
    nearest = float(text)
    if math.isinf(nearest):
        raise ValueError("numbers end at about 1.8e308")
    return nearest


def one_form(number: float) -> int | float:
    """Returns the same for all spellings: an int if it is whole and within 64 bits, else a float.

    A whole number beyond 64 bits, stored before such numbers were refused, becomes the nearest float or infinity.
    """
    if isinstance(number, int):
        return number if LEAST <= number <= MOST else _nearest(number)
    return int(number) if number.is_integer() and LEAST <= number <= MOST else number


def _nearest(number: int) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf
