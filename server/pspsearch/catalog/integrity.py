"""Checks of a whole catalog. They read all of it, so they run only on request.

The caller translates SQLite's errors.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

import apsw

from pspsearch.catalog.connections import damage

TABLES = ("collections", "generations", "items", "images", "descriptors", "requests")


def check_pages(connection: apsw.Connection, path: Path) -> None:
    """Raises CatalogDamaged if SQLite finds the structure of the file at `path` broken."""
    finding = connection.execute("PRAGMA quick_check(1)").get
    if finding != "ok":
        raise damage(f"the catalog {path} is damaged: {finding}")


def check_images(connection: apsw.Connection, path: Path, advance: Callable[[float], None]) -> None:
    """Raises CatalogDamaged if an image does not match its digest; holds one image in memory at a time."""
    count = connection.execute("SELECT COUNT(*) FROM images").get
    for number, (key, sha256, content) in enumerate(connection.execute("SELECT key, sha256, content FROM images")):
        if hashlib.sha256(content).digest() != sha256:
            raise damage(f"the catalog {path} is damaged: image {key} is not what it was")
        advance(number / count)
    advance(1.0)


def count_rows(connection: apsw.Connection) -> dict[str, int]:
    """Counts the rows of every table."""
    return {table: connection.execute(f"SELECT COUNT(*) FROM {table}").get for table in TABLES}  # noqa: S608 - the names above
