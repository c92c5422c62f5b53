"""The SQL of one write: what becomes of an item."""

from collections.abc import Sequence
from dataclasses import dataclass

from pspsearch.catalog.images import drop_unused_images, keep_image
from pspsearch.catalog.records import descriptor_blob, read_descriptor
from pspsearch.catalog.requests import recall_answer, record_answer
from pspsearch.catalog.transaction import Change, Transaction
from pspsearch.domain import Delete, Generation, ImageInfo, Outcome, Row, Upsert, Written
from pspsearch.errors import NotFound


@dataclass(frozen=True, slots=True)
class _Stored:
    """An item as it is before the write."""

    key: int
    sequence: int
    attributes: str
    sha256: bytes | None
    image: int | None
    """The key of its kept bytes."""
    descriptor: bytes


def write_items(
    transaction: Transaction, generation: Generation, writes: Sequence[Upsert | Delete], request_id: str
) -> list[Written]:
    """Makes the changes in their order; NotFound where the generation does not answer for a collection any more."""
    _check_active(transaction, generation)
    if request_id:
        earlier = recall_answer(transaction, generation.collection, request_id)
        if earlier is not None:
            return earlier
    answer = [
        _delete(transaction, generation, write.id)
        if isinstance(write, Delete)
        else _upsert(transaction, generation, write)
        for write in writes
    ]
    if request_id:
        record_answer(transaction, generation.collection, request_id, answer)
    return answer


def _check_active(transaction: Transaction, generation: Generation) -> None:
    active = transaction.connection.execute(
        "SELECT 1 FROM generations JOIN collections ON collections.key = generations.collection "
        "WHERE generations.key = ? AND state = 'active' AND NOT gone",
        (generation.key,),
    ).fetchone()
    if active is None:
        raise NotFound("the collection has been deleted")


def _find(transaction: Transaction, generation: Generation, id_: str) -> _Stored | None:
    row = transaction.connection.execute(
        "SELECT key, sequence, attributes, sha256, image, descriptor "
        "FROM items JOIN descriptors ON item = key AND generation = ? WHERE collection = ? AND id = ?",
        (generation.key, generation.collection, id_),
    ).fetchone()
    return None if row is None else _Stored(*row)


def _upsert(transaction: Transaction, generation: Generation, upsert: Upsert) -> Written:
    stored = _find(transaction, generation, upsert.id)
    if upsert.descriptor is None:
        if stored is None or not _has_image(stored, upsert.info):
            return Written(Outcome.ABSENT, 0)
    elif stored is None:
        return _create(transaction, generation, upsert, descriptor_blob(upsert.descriptor))
    if _is_same(stored, upsert):
        return Written(Outcome.UNCHANGED, stored.sequence)
    return _replace(transaction, generation, stored, upsert)


def _has_image(stored: _Stored, wanted: ImageInfo | None) -> bool:
    """Whether it is the one that is wanted; None does not mind."""
    return wanted is None or stored.sha256 == bytes.fromhex(wanted.sha256)


def _is_same(stored: _Stored, upsert: Upsert) -> bool:
    """The same bytes make the same image, even where a model that runs in batches describes them a little otherwise."""
    if upsert.attributes not in (None, stored.attributes):
        return False
    if upsert.descriptor is None:
        return True
    if upsert.info is None:
        return stored.sha256 is None and stored.descriptor == descriptor_blob(upsert.descriptor)
    same_bytes = stored.sha256 == bytes.fromhex(upsert.info.sha256)
    return same_bytes and (stored.image is None) == (upsert.image is None)


def _create(transaction: Transaction, generation: Generation, upsert: Upsert, descriptor: bytes) -> Written:
    attributes = "{}" if upsert.attributes is None else upsert.attributes
    sequence = transaction.next_sequence()
    key = transaction.connection.execute(
        "INSERT INTO items (collection, id, attributes, media_type, width_px, height_px, size_bytes, sha256, image, "
        "created_us, updated_us, sequence) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING key",
        (
            *(generation.collection, upsert.id, attributes),
            *_image_columns(transaction, upsert.info, upsert.image),
            *(transaction.now_us, transaction.now_us, sequence),
        ),
    ).fetchone()[0]
    transaction.connection.execute("INSERT INTO descriptors VALUES (?, ?, ?)", (key, generation.key, descriptor))
    _tell(transaction, generation, None, Row(sequence, key, upsert.id, attributes, read_descriptor(descriptor)))
    return Written(Outcome.CREATED, sequence)


def _replace(transaction: Transaction, generation: Generation, stored: _Stored, upsert: Upsert) -> Written:
    attributes = stored.attributes if upsert.attributes is None else upsert.attributes
    descriptor = stored.descriptor
    sequence = transaction.next_sequence()
    transaction.connection.execute(
        "UPDATE items SET attributes = ?, updated_us = ?, sequence = ? WHERE key = ?",
        (attributes, transaction.now_us, sequence, stored.key),
    )
    if upsert.descriptor is not None:
        descriptor = descriptor_blob(upsert.descriptor)
        _replace_image(transaction, generation, stored, upsert, descriptor)
    row = Row(sequence, stored.key, upsert.id, attributes, read_descriptor(descriptor))
    _tell(transaction, generation, stored.sequence, row)
    return Written(Outcome.REPLACED, sequence)


def _replace_image(
    transaction: Transaction, generation: Generation, stored: _Stored, upsert: Upsert, descriptor: bytes
) -> None:
    columns = _image_columns(transaction, upsert.info, upsert.image)
    transaction.connection.execute(
        "UPDATE items SET media_type = ?, width_px = ?, height_px = ?, size_bytes = ?, sha256 = ?, image = ? "
        "WHERE key = ?",
        (*columns, stored.key),
    )
    transaction.connection.execute(
        "UPDATE descriptors SET descriptor = ? WHERE item = ? AND generation = ?",
        (descriptor, stored.key, generation.key),
    )
    if stored.image is not None:
        drop_unused_images(transaction, [stored.image])


def _image_columns(
    transaction: Transaction, info: ImageInfo | None, content: bytes | None
) -> tuple[str | int | bytes | None, ...]:
    """media_type, width_px, height_px, size_bytes, sha256, image; the bytes are kept if they are given."""
    if info is None:
        return (None,) * 6
    sha256 = bytes.fromhex(info.sha256)
    image = None if content is None else keep_image(transaction, sha256, content)
    return info.media_type, info.width_px, info.height_px, info.size_bytes, sha256, image


def _delete(transaction: Transaction, generation: Generation, id_: str) -> Written:
    stored = _find(transaction, generation, id_)
    if stored is None:
        return Written(Outcome.ABSENT, 0)
    transaction.connection.execute("DELETE FROM items WHERE key = ?", (stored.key,))
    if stored.image is not None:
        drop_unused_images(transaction, [stored.image])
    _tell(transaction, generation, stored.sequence, None)
    return Written(Outcome.DELETED, transaction.next_sequence())


def _tell(transaction: Transaction, generation: Generation, removed: int | None, added: Row | None) -> None:
    transaction.changes.append(Change(generation, removed, added))
