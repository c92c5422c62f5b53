"""Encoded images: each is stored once, however many items use it, and only as long as one does."""

from collections.abc import Iterable

from pspsearch.catalog.transaction import Transaction


def keep_image(transaction: Transaction, sha256: bytes, content: bytes) -> int:
    """Stores the image unless it is there already; returns its key."""
    execute = transaction.connection.execute
    stored = execute("SELECT key FROM images WHERE sha256 = ?", (sha256,)).fetchone()
    if stored is not None:
        return stored[0]
    return execute("INSERT INTO images (sha256, content) VALUES (?, ?) RETURNING key", (sha256, content)).get


def drop_unused_images(transaction: Transaction, keys: Iterable[int]) -> None:
    """Removes the given images that no item uses any more; counts items each time, so no stored count can be wrong."""
    transaction.connection.executemany(
        "DELETE FROM images WHERE key = ? AND NOT EXISTS (SELECT 1 FROM items WHERE image = images.key)",
        ((key,) for key in keys),
    )
