"""Tokens that say where the next page of a list begins."""

import base64
import binascii
import hashlib
import struct

from pspsearch.errors import InvalidRequest

_FORMAT = struct.Struct(">Bq8s")
_VERSION = 1


def write_token(last_key: int, collection: str, matching: str) -> str:
    """A token for the page of that list that follows `last_key`."""
    packed = _FORMAT.pack(_VERSION, last_key, _digest(collection, matching))
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def read_token(token: str, collection: str, matching: str) -> int:
    """The last key of the previous page; 0 for the first page. Raises InvalidRequest for the token of another list."""
    if not token:
        return 0
    try:
        padded = token + "=" * (-len(token) % 4)
        version, last_key, digest = _FORMAT.unpack(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, struct.error):
        raise InvalidRequest("the page_token does not come from this server") from None
    if version != _VERSION or last_key < 0 or digest != _digest(collection, matching):
        raise InvalidRequest("the page_token belongs to another collection or filter")
    return last_key


def _digest(collection: str, matching: str) -> bytes:
    return hashlib.blake2b(f"{collection}\0{matching}".encode(), digest_size=8).digest()
