"""Turns columns into the types of the domain, and back."""

import contextlib
from collections.abc import Generator
from typing import Any

import numpy as np

from pspsearch.catalog.connections import damage
from pspsearch.catalog.times import from_us
from pspsearch.domain import (
    Collection,
    CollectionSettings,
    Generation,
    GenerationRecord,
    GenerationState,
    ImageInfo,
    IndexKind,
    Item,
    StoredDescriptor,
)

Record = tuple[Any, ...]
"""What SQLite returns; its types are the schema's."""

GENERATION_COLUMNS = "generations.key, generations.collection, generations.model, version, fingerprint, dimension"
"""In the order that `Generation` takes them."""

COLLECTION_COLUMNS = (
    "collections.key, name, collections.model, keep_images, index_kind, target_recall, collections.created_us, "
    f"follows, {GENERATION_COLUMNS}"
)
"""Those of a collection and its active generation, in the order that `read_collection` takes them."""

ITEM_COLUMNS = (
    "items.key, id, attributes, media_type, width_px, height_px, size_bytes, sha256, image, "
    "created_us, updated_us, items.sequence"
)
"""In the order that `read_item` takes them."""


def read_collection(record: Record) -> tuple[Collection, Generation]:
    """Reads a collection and its active generation; CatalogDamaged if they make no sense, as in all readers here."""
    key, name, model, keep_images, index_kind, target_recall, created_us, follows, *generation = record
    with decoding(f"collection {key}"):
        settings = CollectionSettings(model, bool(keep_images), IndexKind(index_kind), target_recall)
        return Collection(key, name, settings, from_us(created_us), bool(follows)), Generation(*generation)


def read_generation(record: Record) -> GenerationRecord:
    """Reads a generation, living or ended."""
    *generation, state, details, created_us, changed_us = record
    with decoding(f"generation {generation[0]}"):
        times = from_us(created_us), from_us(changed_us)
        return GenerationRecord(Generation(*generation), GenerationState(state), details, *times)


def read_item(record: Record) -> Item:
    """Reads an item, with what is known of its image."""
    key, id_, attributes, media_type, width_px, height_px, size_bytes, sha256, image, *times, sequence = record
    with decoding(f"item {key}"):
        info = None
        if sha256 is not None:
            info = ImageInfo(media_type, width_px, height_px, size_bytes, sha256.hex(), image is not None)
        created, updated = map(from_us, times)
        return Item(key, id_, attributes, info, created, updated, sequence)


def descriptor_blob(descriptor: StoredDescriptor) -> bytes:
    """The descriptor as fp16, little-endian."""
    assert descriptor.dtype == np.float16, descriptor.dtype
    assert descriptor.ndim == 1, descriptor.shape
    return descriptor.astype("<f2", copy=False).tobytes()


def read_descriptor(blob: bytes) -> StoredDescriptor:
    """Reads a descriptor; the array is read-only, because several users share it."""
    with decoding("a descriptor"):
        return np.frombuffer(blob, "<f2")


@contextlib.contextmanager
def decoding(what: str) -> Generator[None]:
    """Raises CatalogDamaged if the block cannot make sense of what it reads."""
    try:
        yield
    except (ValueError, TypeError, OverflowError, AttributeError) as error:
        raise damage(f"what the catalog holds as {what} makes no sense: {error}") from error
