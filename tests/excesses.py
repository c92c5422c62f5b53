"""Requests that hold as much as they may of one thing, or more, made from the API's own descriptors and bounds."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor, ServiceDescriptor
from tritonclient.grpc import service_pb2

from pspsearch.callers.rights import RULES
from pspsearch.rpc.bounds import BOUNDS
from pspsearch.v1 import (
    collection_service_pb2,
    item_service_pb2,
    model_service_pb2,
    search_service_pb2,
)

SERVICES: list[ServiceDescriptor] = [
    search_service_pb2.DESCRIPTOR.services_by_name["SearchService"],
    item_service_pb2.DESCRIPTOR.services_by_name["ItemService"],
    collection_service_pb2.DESCRIPTOR.services_by_name["CollectionService"],
    model_service_pb2.DESCRIPTOR.services_by_name["ModelService"],
    cast("Any", service_pb2).DESCRIPTOR.services_by_name["GRPCInferenceService"],
]
METHODS = [method for service in SERVICES for method in service.methods if method.name in RULES]
"""The methods that are served."""

_CONTENT = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)
_WIDTHS = {FieldDescriptor.TYPE_FLOAT: 4, FieldDescriptor.TYPE_DOUBLE: 8}


@dataclass(frozen=True, slots=True)
class Target:
    """One field of a request, at any depth, and what there may be too much of in it."""

    method: MethodDescriptor
    path: tuple[FieldDescriptor, ...]
    by_size: bool
    """Whether the amount is the bytes of one entry; otherwise it is the number of entries."""

    @property
    def field(self) -> FieldDescriptor:
        """The field itself."""
        return self.path[-1]

    @property
    def bound(self) -> int | None:
        """The bound, or None if only the whole request has one."""
        bound = BOUNDS[self.field.full_name]
        return bound.size_bytes if self.by_size else bound.count

    @property
    def name(self) -> str:
        """The name that a refusal uses."""
        return ".".join(self.field.full_name.split(".")[-2:])

    def write(self, amount: int) -> bytes:
        """Returns a request with this much of the field and nothing else."""
        content = self._entries(amount)
        for outer in reversed(self.path[:-1]):
            content = _tag(outer) + _varint(len(content)) + content
        return content

    def most(self, size_bytes: int) -> int:
        """Returns how much of the field a request of that size can hold."""
        around = len(self.write(size_bytes)) - size_bytes if self.by_size else 64
        return (size_bytes - around) // (1 if self.by_size else self._entry_bytes())

    def _entry_bytes(self) -> int:
        one, two = self._entries(1 << 20), self._entries(2 << 20)
        return (len(two) - len(one)) >> 20

    def _entries(self, amount: int) -> bytes:
        if self.by_size:
            return _tag(self.field) + _varint(amount) + bytes([32]) * amount
        if self.field.message_type is not None or self.field.type in _CONTENT:
            return (_tag(self.field) + b"\0") * amount
        packed = bytes(amount * _WIDTHS.get(self.field.type, 1))
        return _tag(self.field) + _varint(len(packed)) + packed


def targets() -> Iterator[Target]:
    """Yields every repeated, text and bytes field of every request."""
    for method in METHODS:
        for path in paths(method.input_type):
            field = path[-1]
            if field.is_repeated:
                yield Target(method, path, by_size=False)
            if field.type in _CONTENT:
                yield Target(method, path, by_size=True)


def paths(kind: Descriptor, before: tuple[FieldDescriptor, ...] = ()) -> Iterator[tuple[FieldDescriptor, ...]]:
    """Yields the paths to every field of a message, and of the messages inside it."""
    for field in kind.fields:
        path = (*before, field)
        yield path
        if field.message_type is not None:
            yield from paths(field.message_type, path)


def _tag(field: FieldDescriptor) -> bytes:
    return _varint(field.number << 3 | 2)


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    return bytes([*written, value])
