"""What a number is, in attributes and in filters: a whole one of 64 bits is exact, any other is a double."""

import math
import re

LEAST, MOST = -(1 << 63), (1 << 64) - 1
"""Whole numbers between these, signed or unsigned ones of 64 bits, are kept exactly."""

_EXACT = 1 << 53
"""Below this, a double says of every whole number which it is."""
_DIGITS = 20
"""Of the longest whole number."""
_WHOLE = re.compile(r"(-?)(\d+)(\.0+)?")  # no zeros before the digits: both could be the same ones, in all ways


def read_number(text: str) -> int | float:
    """The number that JSON or a filter spells; ValueError, with the reason, for one that cannot be told from others.

    Digits, also with nothing but zeros behind the point, are a whole number. With another fraction or an exponent it is
    the nearest double, as everywhere.
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
    """The same for all spellings: an int where it is whole and within 64 bits, else a float.

    A whole number beyond them, which was stored before they were refused, is the nearest float, infinite beyond all.
    """
    if isinstance(number, int):
        return number if LEAST <= number <= MOST else _nearest(number)
    return int(number) if number.is_integer() and LEAST <= number <= MOST else number


def _nearest(number: int) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf
