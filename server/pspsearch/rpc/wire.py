"""What a request holds, counted in its bytes as they came, before anything is made of them."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from pspsearch.errors import InvalidRequest
from pspsearch.rpc.bounds import BOUNDS, MAX_UNKNOWN, Bound

NO_MESSAGE = "the request is no message of its kind"
FIELDS_AT_ONCE = 2000
"""Looked at without a pause, in half a millisecond: a batch of 256 has no more, however long its images are."""

_VARINT, _EIGHT, _CONTENT, _FOUR = 0, 1, 2, 5
"""How a value is written: as long as it is, in eight bytes, with its length before it, in four bytes."""
_SIZES = {_EIGHT: 8, _FOUR: 4}
_ANY_SIZE = 1 << 62
_CONTINUED = bytes(range(128, 256))
_MAX_VARINT_BYTES = 10
_WIDTHS = {
    **dict.fromkeys((FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_FIXED32, FieldDescriptor.TYPE_SFIXED32), 4),
    **dict.fromkeys((FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FIXED64, FieldDescriptor.TYPE_SFIXED64), 8),
}


_NUMBERS, _MESSAGE, _OTHER = 0, 1, 2
"""What a field holds. No enumeration, whose names take as long as all the rest."""


@dataclass(slots=True)
class _Field:
    name: str
    number: int
    kind: int
    count: int
    """The most entries that it may have."""
    size_bytes: int = _ANY_SIZE
    """The most bytes of one entry."""
    width: int = 0
    """Of a number, in bytes; 0 where each is as long as it is."""
    inner: Mapping[int, "_Field"] = field(default_factory=dict[int, "_Field"])
    """The fields of the message that this is, by how they begin on the wire."""


class Shape:
    """What a request of one kind may look like."""

    def __init__(self, kind: Descriptor) -> None:
        """KeyError names a field that has no bound."""
        self._unknown = _Field("what this server does not know of a message", 0, _OTHER, MAX_UNKNOWN)
        self._fields = _read(kind, {})

    def check(self, content: bytes) -> Generator[None]:
        """InvalidRequest at the first field that holds too much, or where the bytes are no message.

        With a pause after every `FIELDS_AT_ONCE` fields.
        """
        try:
            yield from self._check(content, 0, len(content), self._fields, FIELDS_AT_ONCE)
        except IndexError:
            _refuse("it ends too early")

    def _check(  # noqa: PLR0912 - calls cost
        self, content: bytes, place: int, end: int, fields: Mapping[int, _Field], left: int
    ) -> Generator[None, None, int]:
        """One message, from its place to its end; how many more fields there may be until the next pause."""
        counts: dict[int, int] = {}
        while place < end:
            if not left:
                yield
                left = FIELDS_AT_ONCE
            left -= 1
            tag = content[place]
            place += 1
            if tag > 127:
                tag, place = _varint(content, place - 1)
            known = fields.get(tag, self._unknown)
            way, count = tag & 7, 1
            if way == _CONTENT:
                size = content[place]
                place += 1
                if size > 127:
                    if (more := content[place]) < 128:  # nearly always: a call would cost as much as the rest
                        size, place = size & 127 | more << 7, place + 1
                    else:
                        size, place = _varint(content, place - 1)
                if known.kind == _NUMBERS:
                    count = _count(content, place, size, known)
            elif way == _VARINT:
                size = 1 if content[place] < 128 else _varint(content, place)[1] - place
            else:
                size = _SIZES.get(way) or _refuse("it has groups")
            stop = place + size
            if stop > end:
                _refuse("a field is longer than what it is in")
            number = known.number
            if number in counts:
                count += counts[number]
            counts[number] = count
            if count > known.count:
                raise InvalidRequest(
                    f"{known.name} has {count:,} entries or more, and at most {known.count:,} are taken"
                )
            if size > known.size_bytes:
                raise InvalidRequest(f"{known.name} has {size:,} bytes, and at most {known.size_bytes:,} are taken")
            if known.kind == _MESSAGE:
                left = yield from self._check(content, place, stop, known.inner, left)
            place = stop
        return left


def _read(kind: Descriptor, known: dict[str, dict[int, _Field]]) -> Mapping[int, _Field]:
    """By how they begin on the wire: numbers that may be repeated have two ways."""
    if kind.full_name in known:
        return known[kind.full_name]
    fields = known[kind.full_name] = {}
    for one in kind.fields:
        name, number = f"{kind.name}.{one.name}", one.number
        is_content = one.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)
        bound = BOUNDS[one.full_name] if one.is_repeated or is_content else Bound()
        ways = [_CONTENT]
        if one.message_type is not None:
            made = _Field(name, number, _MESSAGE, bound.count, inner=_read(one.message_type, known))
        elif is_content:
            made = _Field(name, number, _OTHER, bound.count, bound.size_bytes or _ANY_SIZE)
        else:
            width = _WIDTHS.get(one.type, 0)
            made = _Field(name, number, _NUMBERS, bound.count, width=width)
            ways = [{4: _FOUR, 8: _EIGHT}.get(width, _VARINT), *(ways if one.is_repeated else [])]
        fields.update({number << 3 | way: made for way in ways})
    return fields


def _count(content: bytes, place: int, size: int, numbers: _Field) -> int:
    """How many numbers one after the other there are; none is looked at where there must be too many."""
    if numbers.width:
        return size // numbers.width
    if size > _MAX_VARINT_BYTES * numbers.count:
        return size // _MAX_VARINT_BYTES
    return len(content[place : place + size].translate(None, _CONTINUED))


def _varint(content: bytes, place: int) -> tuple[int, int]:
    """A number that is as long as it is, and the place after it."""
    value = 0
    for position in range(_MAX_VARINT_BYTES):
        byte = content[place + position]
        value |= (byte & 127) << 7 * position
        if byte < 128:
            return value, place + position + 1
    raise InvalidRequest(f"{NO_MESSAGE}: a number has no end")


def _refuse(reason: str) -> NoReturn:
    raise InvalidRequest(f"{NO_MESSAGE}: {reason}")
