"""The attributes of an item: a JSON object in its canonical form."""

import itertools
import json
import re
from typing import Any, NoReturn

from pspsearch.errors import InvalidRequest
from pspsearch.number import read_number

MAX_BYTES = 64 * 1024
MAX_DEPTH = 16

_NUMBERS = re.compile(r'"(?:\\.|[^"\\])*"|(-?\d[\d.eE+-]*)', re.DOTALL)
"""Matches strings, too, so that what looks like a number in one is not counted."""


def validate_attributes(text: str) -> str:
    """Returns the same object, compact and with sorted names; InvalidRequest if it cannot be an item's attributes."""
    size_bytes = len(text.encode(errors="surrogatepass"))
    if size_bytes > MAX_BYTES:
        raise InvalidRequest(f"attributes have at most {MAX_BYTES} bytes, not {size_bytes}")
    try:
        numbers = _Numbers(text)
        read = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_refuse, parse_int=numbers.read, parse_float=numbers.read
        )
        read_again = json.dumps(read, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        read_again.encode()
    except RecursionError:
        raise InvalidRequest(f"attributes are nested more than {MAX_DEPTH} deep") from None
    except UnicodeEncodeError:
        raise InvalidRequest("attributes hold half of a surrogate pair, which is no character") from None
    except ValueError as error:
        raise InvalidRequest(f"attributes are not JSON: {error}") from error
    if not isinstance(read, dict):
        raise InvalidRequest(f"attributes are a JSON object, not {text[:40]!r}")
    if _depth(read_again) > MAX_DEPTH:
        raise InvalidRequest(f"attributes are nested more than {MAX_DEPTH} deep")
    return read_again


class _Numbers:
    """Reads the numbers of a text, from the first to the last, so that a bad one can be named by its place."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._count = 0

    def read(self, number: str) -> int | float:
        """Reads the next number; InvalidRequest, with its place, if it cannot be told from others."""
        self._count += 1
        try:
            return read_number(number)
        except ValueError as error:
            place = self._place(self._count)
            raise InvalidRequest(f"attributes hold {number[:40]} at character {place + 1}: {error}") from error

    def _place(self, count: int) -> int:
        found = (match.start() for match in _NUMBERS.finditer(self._text) if match[1])
        return next(itertools.islice(found, count - 1, None))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise InvalidRequest("attributes name a member twice")
    if any("\0" in name for name in members):
        raise InvalidRequest("attributes have a name with a NUL in it")
    return members


def _refuse(constant: str) -> NoReturn:
    raise InvalidRequest(f"attributes hold {constant}, which is not JSON")


def _depth(text: str) -> int:
    """The depth of nesting in canonical JSON, counted along the text so that nothing recurses."""
    depth = deepest = 0
    quoted = escaped = False
    for character in text:
        if quoted:
            quoted = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            quoted = True
        elif character in "{[":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "}]":
            depth -= 1
    return deepest
