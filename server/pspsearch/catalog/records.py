"""From columns to the words of the domain, and back."""

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
"""As `Generation` takes them."""

COLLECTION_COLUMNS = (
    "collections.key, name, collections.model, keep_images, index_kind, target_recall, collections.created_us, "
    f"follows, {GENERATION_COLUMNS}"
)
"""Of a collection and its active generation, as `read_collection` takes them."""

ITEM_COLUMNS = (
    "items.key, id, attributes, media_type, width_px, height_px, size_bytes, sha256, image, "
    "created_us, updated_us, items.sequence"
)
"""As `read_item` takes them."""


def read_collection(record: Record) -> tuple[Collection, Generation]:
    """CatalogDamaged where the columns make no sense, as with the other records."""
    key, name, model, keep_images, index_kind, target_recall, created_us, follows, *generation = record
    with decoding(f"collection {key}"):
        settings = CollectionSettings(model, bool(keep_images), IndexKind(index_kind), target_recall)
        return Collection(key, name, settings, from_us(created_us), bool(follows)), Generation(*generation)


def read_generation(record: Record) -> GenerationRecord:
    """Living or ended."""
    *generation, state, details, created_us, changed_us = record
    with decoding(f"generation {generation[0]}"):
        times = from_us(created_us), from_us(changed_us)
        return GenerationRecord(Generation(*generation), GenerationState(state), details, *times)


def read_item(record: Record) -> Item:
    """An item with what is known of its image."""
    key, id_, attributes, media_type, width_px, height_px, size_bytes, sha256, image, *times, sequence = record
    with decoding(f"item {key}"):
        info = None
        if sha256 is not None:
            info = ImageInfo(media_type, width_px, height_px, size_bytes, sha256.hex(), image is not None)
        created, updated = map(from_us, times)
        return Item(key, id_, attributes, info, created, updated, sequence)


def descriptor_blob(descriptor: StoredDescriptor) -> bytes:
    """fp16, little-endian."""
    assert descriptor.dtype == np.float16, descriptor.dtype
    assert descriptor.ndim == 1, descriptor.shape
    return descriptor.astype("<f2", copy=False).tobytes()


def read_descriptor(blob: bytes) -> StoredDescriptor:
    """Read-only, as everybody gets the same one."""
    with decoding("a descriptor"):
        return np.frombuffer(blob, "<f2")


@contextlib.contextmanager
def decoding(what: str) -> Generator[None]:
    """CatalogDamaged where what was read cannot be understood."""
    try:
        yield
    except (ValueError, TypeError, OverflowError, AttributeError) as error:
        raise damage(f"what the catalog holds as {what} makes no sense: {error}") from error
