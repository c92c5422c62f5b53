"""The attributes of an item: a JSON object in its canonical form."""

import json
from typing import Any, NoReturn

from pspsearch.errors import InvalidRequest

MAX_BYTES = 64 * 1024
MAX_DEPTH = 16


def validate_attributes(text: str) -> str:
    """The same object, compact, names sorted; InvalidRequest where it cannot be the attributes of an item."""
    size_bytes = len(text.encode(errors="surrogatepass"))
    if size_bytes > MAX_BYTES:
        raise InvalidRequest(f"attributes have at most {MAX_BYTES} bytes, not {size_bytes}")
    try:
        read = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
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
    """Of canonical JSON, counted along the text: nothing here recurses."""
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
