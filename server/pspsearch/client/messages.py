"""Turns the clients' types into the API's messages."""

import contextlib
import json
from collections.abc import Generator
from pathlib import Path

import numpy as np

from pspsearch.client.types import Attributes, Descriptor, ItemId, ItemInput, Query, Region, SearchOptions
from pspsearch.errors import InvalidRequest
from pspsearch.v1 import item_service_pb2, resources_pb2, search_service_pb2


def query_message(query: Query) -> search_service_pb2.Query:
    """Makes a query, and reads its file. Raises InvalidRequest if that cannot be read."""
    if isinstance(query, ItemId):
        return search_service_pb2.Query(id=query.id)
    if isinstance(query, Descriptor):
        return search_service_pb2.Query(descriptor=descriptor_message(query))
    if isinstance(query, Region):
        return search_service_pb2.Query(image=read_image(query.image), box=box_message(query))
    return search_service_pb2.Query(image=read_image(query))


def options_message(options: SearchOptions) -> search_service_pb2.SearchOptions:
    """Makes the options of a search. The server chooses for each that is None."""
    given = {name: value for name, value in options.items() if value is not None}
    return search_service_pb2.SearchOptions(**given)  # pyright: ignore[reportArgumentType] - SearchOptions has the message's names and types


def item_message(item: ItemInput) -> item_service_pb2.ItemInput:
    """Makes an item, and reads its file. Raises InvalidRequest if that cannot be read, or a value cannot be sent."""
    with checking(f"the item {item.id!r}"):
        message = item_service_pb2.ItemInput(id=item.id)
        if isinstance(item.source, Descriptor):
            message.descriptor.CopyFrom(descriptor_message(item.source))
        elif item.source is not None:
            message.image = read_image(item.source)
        if item.attributes is not None:
            message.attributes_json = _attributes_json(item.attributes)
        return message


def descriptor_message(descriptor: Descriptor) -> resources_pb2.Descriptor:
    """Makes a descriptor, with its numbers as float32."""
    values = np.asarray(descriptor.values, np.float32).ravel()
    return resources_pb2.Descriptor(values=values.tolist(), fingerprint=descriptor.fingerprint)


def box_message(region: Region) -> resources_pb2.Box:
    """Makes the box of a region."""
    left, top, right, bottom = region.box
    return resources_pb2.Box(left=left, top=top, right=right, bottom=bottom, in_px=region.in_px)


def read_image(image: Path | bytes) -> bytes:
    """Returns the encoded bytes. Raises InvalidRequest for an unreadable file, and for any other type."""
    if isinstance(image, Path):
        try:
            return image.read_bytes()
        except OSError as error:
            raise InvalidRequest(f"{image} cannot be read: {error.strerror}") from error
    if not isinstance(image, bytes):  # pyright: ignore[reportUnnecessaryIsInstance] - not every caller checks types
        raise InvalidRequest(
            f"an image is a pathlib.Path or bytes, and {image!r} is neither; an item's id is an ItemId"
        )
    return image


def _attributes_json(attributes: Attributes) -> str:
    return json.dumps(dict(attributes), ensure_ascii=False, allow_nan=False)


@contextlib.contextmanager
def checking(what: str) -> Generator[None]:
    """A context manager or decorator that raises InvalidRequest for values that protobuf or json refuse."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"{what} cannot be sent: {error}") from error
