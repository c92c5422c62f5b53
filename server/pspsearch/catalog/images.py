"""Encoded images, each kept once however many items have it, and no longer than one has it."""

from collections.abc import Iterable

from pspsearch.catalog.transaction import Transaction


def keep_image(transaction: Transaction, sha256: bytes, content: bytes) -> int:
    """The key of the image, which is stored if it was not."""
    execute = transaction.connection.execute
    stored = execute("SELECT key FROM images WHERE sha256 = ?", (sha256,)).fetchone()
    if stored is not None:
        return stored[0]
    return execute("INSERT INTO images (sha256, content) VALUES (?, ?) RETURNING key", (sha256, content)).get


def drop_unused_images(transaction: Transaction, keys: Iterable[int]) -> None:
    """Removes those of the images that no item has any more: counted, not remembered, so the count cannot be wrong."""
    transaction.connection.executemany(
        "DELETE FROM images WHERE key = ? AND NOT EXISTS (SELECT 1 FROM items WHERE image = images.key)",
        ((key,) for key in keys),
    )
