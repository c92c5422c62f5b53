"""Checks a serialised request against its bounds, before it is parsed."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from pspsearch.errors import InvalidRequest
from pspsearch.rpc.bounds import BOUNDS, MAX_UNKNOWN, Bound

NO_MESSAGE = "the request is not a message of its kind"
FIELDS_AT_ONCE = 2000
"""How many fields are checked without a pause, which takes half a millisecond. A batch of 256 images has no more."""

_VARINT, _EIGHT, _CONTENT, _FOUR = 0, 1, 2, 5
"""Protobuf's wire types: a varint, eight bytes, content that follows its length, four bytes."""
_SIZES = {_EIGHT: 8, _FOUR: 4}
_ANY_SIZE = 1 << 62
_CONTINUED = bytes(range(128, 256))
_MAX_VARINT_BYTES = 10
_WIDTHS = {
    **dict.fromkeys((FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_FIXED32, FieldDescriptor.TYPE_SFIXED32), 4),
    **dict.fromkeys((FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FIXED64, FieldDescriptor.TYPE_SFIXED64), 8),
}


_NUMBERS, _MESSAGE, _OTHER = 0, 1, 2
"""What a field holds. Not an Enum, because looking up its members takes as long as all the rest."""


@dataclass(slots=True)
class _Field:
    name: str
    number: int
    kind: int
    count: int
    """The most entries."""
    size_bytes: int = _ANY_SIZE
    """The most bytes in one entry."""
    width: int = 0
    """The bytes of each number; 0 for varints."""
    inner: Mapping[int, "_Field"] = field(default_factory=dict[int, "_Field"])
    """The fields of a message, by their tag on the wire."""


class Shape:
    """The bounds of one kind of request."""

    def __init__(self, kind: Descriptor) -> None:
        """Raises KeyError if a field has no bound."""
        self._unknown = _Field("what this server does not know of a message", 0, _OTHER, MAX_UNKNOWN)
        self._fields = _read(kind, {})

    def check(self, content: bytes) -> Generator[None]:
        """Checks the bytes, yielding after every `FIELDS_AT_ONCE` fields.

        Raises InvalidRequest at the first field that holds too much, or if the bytes are not a message.
        """
        try:
            yield from self._check(content, 0, len(content), self._fields, FIELDS_AT_ONCE)
        except IndexError:
            _refuse("it ends too early")

    def _check(  # noqa: PLR0912 - calls would cost too much
        self, content: bytes, place: int, end: int, fields: Mapping[int, _Field], left: int
    ) -> Generator[None, None, int]:
        """Checks one message from `place` to `end`, and returns how many fields are `left` until the next pause."""
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
                    if (more := content[place]) < 128:  # nearly always, and a call would cost as much as all the rest
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
                _refuse("a field is longer than the message around it")
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
    """The fields of a message by their tags. Repeated numbers have two: packed and one by one."""
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
    """How many packed numbers there are. Skips the count if the size alone shows that there are too many."""
    if numbers.width:
        return size // numbers.width
    if size > _MAX_VARINT_BYTES * numbers.count:
        return size // _MAX_VARINT_BYTES
    return len(content[place : place + size].translate(None, _CONTINUED))


def _varint(content: bytes, place: int) -> tuple[int, int]:
    """Reads a varint, and returns it with the place after it."""
    value = 0
    for position in range(_MAX_VARINT_BYTES):
        byte = content[place + position]
        value |= (byte & 127) << 7 * position
        if byte < 128:
            return value, place + position + 1
    raise InvalidRequest(f"{NO_MESSAGE}: a number has no end")


def _refuse(reason: str) -> NoReturn:
    raise InvalidRequest(f"{NO_MESSAGE}: {reason}")
