"""The SQL of writes: creates, replaces, completes and deletes items."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pspsearch.catalog.generations import Living, find_living
from pspsearch.catalog.images import drop_unused_images, keep_image
from pspsearch.catalog.records import descriptor_blob, read_descriptor
from pspsearch.catalog.requests import recall_answer, record_answer
from pspsearch.catalog.transaction import Change, Transaction
from pspsearch.domain import Delete, Filling, Generation, ImageInfo, Outcome, Row, StoredDescriptor, Upsert, Written
from pspsearch.errors import ModelChanged, NotFound


@dataclass(frozen=True, slots=True)
class _Stored:
    """An item as it was before the write."""

    key: int
    id: str
    sequence: int
    attributes: str
    sha256: bytes | None
    image: int | None
    """The key of its stored bytes; None if they are not kept."""
    descriptors: Mapping[int, bytes]
    """By generation key; a living generation that the item was not described for has no entry."""


def write_items(
    transaction: Transaction,
    generation: Generation,
    writes: Sequence[Upsert | Delete],
    request_id: str = "",
    asked: str = "",
) -> list[Written]:
    """Makes the changes in order; a repeated request changes nothing and gets its earlier answer.

    Raises NotFound if the collection is gone, InvalidRequest if the request id was used for something else.
    """
    living = find_living(transaction, generation.collection)
    if not living:
        raise NotFound("the collection has been deleted")
    if request_id:
        earlier = recall_answer(transaction, generation.collection, request_id, asked)
        if earlier is not None:
            return earlier
    items = _Items(transaction, generation.collection, living)
    answer = [
        items.delete(write)
        if isinstance(write, Delete)
        else items.upsert(write, _descriptors(write, generation, living))
        for write in writes
    ]
    if request_id:
        record_answer(transaction, generation.collection, request_id, asked, answer)
    return answer


def fill(transaction: Transaction, generation: Generation, filled: Sequence[Filling], *, renew: bool) -> int:
    """Adds missing descriptors; returns how many items still had that image and lacked the descriptor."""
    living = find_living(transaction, generation.collection)
    if generation.key not in living.generations:
        raise NotFound(f"the generation {generation.key} has ended")
    items = _Items(transaction, generation.collection, living)
    return sum(items.fill(generation.key, one, renew=renew) for one in filled)


def _descriptors(upsert: Upsert, generation: Generation, living: Living) -> dict[int, bytes]:
    """The blobs of the living generations that the item was described for; ModelChanged without the active one."""
    if upsert.descriptor is None:
        return {}
    given: dict[int, StoredDescriptor] = {generation.key: upsert.descriptor, **upsert.others}
    if living.active not in given:
        raise ModelChanged("the collection's model version changed while the items were described")
    return {key: descriptor_blob(one) for key, one in given.items() if key in living.generations}


class _Items:
    """The items of one collection, within one transaction."""

    def __init__(self, transaction: Transaction, collection: int, living: Living) -> None:
        self._transaction = transaction
        self._execute = transaction.connection.execute
        self._collection = collection
        self._living = living

    def upsert(self, upsert: Upsert, descriptors: Mapping[int, bytes]) -> Written:
        """Applies an upsert; `descriptors` are those for living generations, none if the image stays."""
        stored = self._find("collection = ? AND id = ?", self._collection, upsert.id)
        if upsert.descriptor is None:
            if stored is None or not self._has_image(stored, upsert.info):
                return Written(Outcome.ABSENT, 0)
        elif stored is None:
            return self._create(upsert, descriptors)
        if not _is_same(stored, upsert, descriptors):
            return self._replace(stored, upsert, descriptors)
        if descriptors.keys() <= stored.descriptors.keys():
            return Written(Outcome.UNCHANGED, stored.sequence)
        return Written(Outcome.UNCHANGED, self._complete(stored, descriptors))

    def delete(self, delete: Delete) -> Written:
        """Deletes the item if it is still the one that is meant."""
        stored = self._find("collection = ? AND id = ?", self._collection, delete.id)
        if stored is None or not _is_meant(stored, delete):
            return Written(Outcome.ABSENT, 0)
        self._execute("DELETE FROM items WHERE key = ?", (stored.key,))
        if stored.image is not None:
            drop_unused_images(self._transaction, [stored.image])
        self._tell(stored, None)
        return Written(Outcome.DELETED, self._transaction.next_sequence())

    def fill(self, generation: int, filling: Filling, *, renew: bool) -> bool:
        """Adds the descriptor; returns whether the item was there, had that image and lacked the descriptor."""
        stored = self._find("collection = ? AND key = ?", self._collection, filling.key)
        wanted = bytes.fromhex(filling.sha256)
        if stored is None or stored.sha256 != wanted or generation in stored.descriptors:
            return False
        descriptors = {generation: descriptor_blob(filling.descriptor)}
        if renew:
            self._complete(stored, descriptors)
        else:
            self._describe(stored.key, descriptors)
        return True

    def _has_image(self, stored: _Stored, wanted: ImageInfo | None) -> bool:
        """Whether the item has the wanted image, is found by it and keeps it if it must; True if none is wanted."""
        if wanted is None:
            return True
        is_whole = self._living.active in stored.descriptors and (stored.image is not None or not wanted.kept)
        return is_whole and stored.sha256 == bytes.fromhex(wanted.sha256)

    def _find(self, where: str, *values: int | str) -> _Stored | None:
        row = self._execute(
            f"SELECT key, id, sequence, attributes, sha256, image FROM items WHERE {where}",  # noqa: S608 - constants
            values,
        ).fetchone()
        if row is None:
            return None
        key, id_, sequence, attributes, sha256, image = row
        described = self._execute("SELECT generation, descriptor FROM descriptors WHERE item = ?", (key,))
        descriptors = {generation: blob for generation, blob in described if generation in self._living.generations}
        return _Stored(key, id_, sequence, attributes, sha256, image, descriptors)

    def _create(self, upsert: Upsert, descriptors: Mapping[int, bytes]) -> Written:
        attributes = "{}" if upsert.attributes is None else upsert.attributes
        now_us, sequence = self._transaction.now_us, self._transaction.next_sequence()
        key: int = self._execute(
            "INSERT INTO items (collection, id, attributes, media_type, width_px, height_px, size_bytes, sha256, "
            "image, created_us, updated_us, sequence) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING key",
            (self._collection, upsert.id, attributes, *self._image_columns(upsert), now_us, now_us, sequence),
        ).get
        self._describe(key, descriptors)
        self._tell(None, _Stored(key, upsert.id, sequence, attributes, None, None, descriptors))
        return Written(Outcome.CREATED, sequence)

    def _replace(self, stored: _Stored, upsert: Upsert, descriptors: Mapping[int, bytes]) -> Written:
        attributes = stored.attributes if upsert.attributes is None else upsert.attributes
        sequence = self._transaction.next_sequence()
        self._execute(
            "UPDATE items SET attributes = ?, updated_us = ?, sequence = ? WHERE key = ?",
            (attributes, self._transaction.now_us, sequence, stored.key),
        )
        if upsert.descriptor is None:
            descriptors = stored.descriptors
        else:
            self._replace_image(stored, upsert, descriptors)
        self._tell(stored, replace(stored, sequence=sequence, attributes=attributes, descriptors=descriptors))
        return Written(Outcome.REPLACED, sequence)

    def _replace_image(self, stored: _Stored, upsert: Upsert, descriptors: Mapping[int, bytes]) -> None:
        """Replaces the image and drops all descriptors of the old one."""
        self._execute(
            "UPDATE items SET media_type = ?, width_px = ?, height_px = ?, size_bytes = ?, sha256 = ?, image = ? "
            "WHERE key = ?",
            (*self._image_columns(upsert), stored.key),
        )
        self._execute("DELETE FROM descriptors WHERE item = ?", (stored.key,))
        self._describe(stored.key, descriptors)
        if stored.image is not None:
            drop_unused_images(self._transaction, [stored.image])

    def _complete(self, stored: _Stored, descriptors: Mapping[int, bytes]) -> int:
        """Adds the descriptors that the item lacks, under a new sequence, because an index takes only later rows."""
        missing = {key: blob for key, blob in descriptors.items() if key not in stored.descriptors}
        sequence = self._transaction.next_sequence()
        self._execute("UPDATE items SET sequence = ? WHERE key = ?", (sequence, stored.key))
        self._describe(stored.key, missing)
        self._tell(stored, replace(stored, sequence=sequence, descriptors={**stored.descriptors, **missing}))
        return sequence

    def _describe(self, key: int, descriptors: Mapping[int, bytes]) -> None:
        self._transaction.connection.executemany(
            "INSERT INTO descriptors VALUES (?, ?, ?)",
            ((key, generation, blob) for generation, blob in descriptors.items()),
        )

    def _image_columns(self, upsert: Upsert) -> tuple[str | int | bytes | None, ...]:
        """Returns media_type, width_px, height_px, size_bytes, sha256, image; keeps the bytes if there are any."""
        info = upsert.info
        if info is None:
            return (None,) * 6
        sha256 = bytes.fromhex(info.sha256)
        image = None if upsert.image is None else keep_image(self._transaction, sha256, upsert.image)
        return info.media_type, info.width_px, info.height_px, info.size_bytes, sha256, image

    def _tell(self, before: _Stored | None, after: _Stored | None) -> None:
        """Records a change for each generation that had a row of the item or has one now."""
        for key, generation in self._living.generations.items():
            removed = before.sequence if before is not None and key in before.descriptors else None
            added = None
            if after is not None and key in after.descriptors:
                descriptor = read_descriptor(after.descriptors[key])
                added = Row(after.sequence, after.key, after.id, after.attributes, descriptor)
            if removed is not None or added is not None:
                self._transaction.changes.append(Change(generation, removed, added))


def _is_meant(stored: _Stored, delete: Delete) -> bool:
    """Whether this is the item to delete; tests attributes again only if they changed: the writer's time is scarce."""
    if delete.key not in (None, stored.key):
        return False
    return delete.still is None or stored.sequence == delete.sequence or delete.still(stored.attributes)


def _is_same(stored: _Stored, upsert: Upsert, descriptors: Mapping[int, bytes]) -> bool:
    """Whether the upsert changes nothing.

    Equal bytes are the same image, even if a model that batches describes them slightly differently. An item without an
    image is the same only if each given descriptor is: nothing else links descriptors of different spaces.
    """
    if upsert.attributes not in (None, stored.attributes):
        return False
    if upsert.descriptor is None:
        return True
    if upsert.info is None:
        return stored.sha256 is None and all(stored.descriptors.get(key) == blob for key, blob in descriptors.items())
    same_bytes = stored.sha256 == bytes.fromhex(upsert.info.sha256)
    return same_bytes and (stored.image is None) == (upsert.image is None)
