"""Whether a catalog is what it was: looked at when asked, because all of it has to be read.

The caller translates what SQLite raises.
"""

import hashlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

from pspsearch.errors import CatalogDamaged

_TABLES = ("collections", "generations", "items", "images", "descriptors", "requests")


def check_pages(connection: sqlite3.Connection, path: Path) -> None:
    """CatalogDamaged where SQLite finds the structure of the file at `path` broken."""
    (finding,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if finding != "ok":
        raise CatalogDamaged(f"the catalog {path} is damaged: {finding}; restore a backup")


def check_images(connection: sqlite3.Connection, path: Path, advance: Callable[[float], None]) -> None:
    """CatalogDamaged where an image is not the one that its digest names; one image at a time is in memory."""
    (count,) = connection.execute("SELECT COUNT(*) FROM images").fetchone()
    for number, (key, sha256, content) in enumerate(connection.execute("SELECT key, sha256, content FROM images")):
        if hashlib.sha256(content).digest() != sha256:
            raise CatalogDamaged(f"the catalog {path} is damaged: image {key} is not what it was; restore a backup")
        advance(number / count)
    advance(1.0)


def count_rows(connection: sqlite3.Connection) -> dict[str, int]:
    """Of every table."""
    return {table: connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] for table in _TABLES}  # noqa: S608 - the names above
