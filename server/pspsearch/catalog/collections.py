"""The SQL that creates collections, and deletes them without holding up other writes."""

from pspsearch.catalog.generations import insert_generation, sweep_slice
from pspsearch.catalog.images import drop_unused_images
from pspsearch.catalog.times import from_us
from pspsearch.catalog.transaction import Transaction
from pspsearch.domain import Collection, CollectionSettings, Generation, GenerationState, ModelVersion
from pspsearch.errors import AlreadyExists, NotFound

_SLICE = 64
"""How many items one slice deletes, which takes a few milliseconds."""


def create_collection(
    transaction: Transaction, name: str, settings: CollectionSettings, version: ModelVersion
) -> tuple[Collection, Generation]:
    """Creates an empty collection with one active generation; AlreadyExists if the name is taken."""
    execute = transaction.connection.execute
    if execute("SELECT 1 FROM collections WHERE name = ? AND NOT gone", (name,)).fetchone() is not None:
        raise AlreadyExists(f"there is a collection {name!r} already")
    key = execute(
        "INSERT INTO collections (name, model, keep_images, index_kind, target_recall, created_us) "
        "VALUES (?, ?, ?, ?, ?, ?) RETURNING key",
        (
            *(name, settings.model, settings.keep_images, settings.index_kind.value, settings.target_recall),
            transaction.now_us,
        ),
    ).get
    generation = insert_generation(transaction, key, version, GenerationState.ACTIVE)
    return Collection(key, name, settings, from_us(transaction.now_us)), generation


def set_follows(transaction: Transaction, collection: int, *, follows: bool) -> None:
    """Sets whether the collection moves to new model versions by itself; NotFound if it is gone."""
    transaction.connection.execute(
        "UPDATE collections SET follows = ? WHERE key = ? AND NOT gone", (follows, collection)
    )
    if not transaction.connection.changes():
        raise NotFound("the collection has been deleted")


def delete_collection(transaction: Transaction, collection: int) -> int:
    """Marks the collection as gone, which frees its name at once; returns how many items it had.

    Listeners hear nothing of this: with the collection they drop all that they heard of it. Raises NotFound if it
    is gone already.
    """
    execute = transaction.connection.execute
    execute("UPDATE collections SET gone = 1 WHERE key = ? AND NOT gone", (collection,))
    if not transaction.connection.changes():
        raise NotFound("the collection has been deleted already")
    return execute("SELECT COUNT(*) FROM items WHERE collection = ?", (collection,)).get


def take_out_slice(transaction: Transaction) -> bool:
    """Removes a slice of what deleted collections and ended generations left; returns whether there may be more."""
    execute = transaction.connection.execute
    gone = execute("SELECT key FROM collections WHERE gone LIMIT 1").fetchone()
    if gone is None:
        return sweep_slice(transaction)
    if _take_out_items(transaction, *gone) or _take_out_requests(transaction, *gone):
        return True
    execute("DELETE FROM generations WHERE collection = ?", gone)
    execute("DELETE FROM collections WHERE key = ?", gone)
    return True


def _take_out_items(transaction: Transaction, collection: int) -> bool:
    items = transaction.connection.execute(
        "SELECT key, image FROM items WHERE collection = ? ORDER BY key LIMIT ?", (collection, _SLICE)
    ).fetchall()
    transaction.connection.executemany("DELETE FROM items WHERE key = ?", ((key,) for key, _ in items))
    drop_unused_images(transaction, {image for _, image in items if image is not None})
    return bool(items)


def _take_out_requests(transaction: Transaction, collection: int) -> bool:
    transaction.connection.execute(
        "DELETE FROM requests WHERE rowid IN (SELECT rowid FROM requests WHERE collection = ? LIMIT ?)",
        (collection, _SLICE),
    )
    return transaction.connection.changes() > 0
