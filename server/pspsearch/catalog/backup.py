"""Copies of a catalog: made while a server writes, and looked at before they are trusted.

A backup is one file with all that cannot be made again. Indexes are not in it: they are a cache.
"""

import contextlib
import shutil
import sqlite3
from collections.abc import Callable, Generator
from pathlib import Path

from pspsearch.catalog.connections import connect_reader, translate_errors
from pspsearch.catalog.folder import CATALOG, LOCK, FolderLock, sync
from pspsearch.catalog.integrity import check_images, check_pages, count_rows
from pspsearch.catalog.schema import check_schema
from pspsearch.errors import CatalogDamaged, CatalogError

_STEP_PAGES = 1024

Advance = Callable[[float], None]
"""Hears the share that is done."""


def back_up(data: Path, destination: Path, advance: Advance = lambda _share: None) -> None:
    """Writes what the catalog in `data` holds at this moment into the new file `destination`; durable on return.

    From any thread or process, also while a server writes; its log grows meanwhile by what it writes. Every image is
    held against its digest. CatalogError where it cannot be done; then there is no file.
    """
    source = data / CATALOG
    if not source.is_file():
        raise CatalogError(f"there is no catalog in {data}")
    if destination.exists():
        raise CatalogError(f"{destination} is there already: a backup goes into a new file")
    with _incoming(destination) as incoming:
        counts = _copy(source, incoming, lambda share: advance(share / 2))
        _verify(incoming, counts, lambda share: advance((1 + share) / 2))


def restore(backup: Path, data: Path, advance: Advance = lambda _share: None) -> None:
    """Makes the folder `data`, which must be new or empty, that of a catalog like `backup`; durable on return.

    CatalogError where the backup is damaged or the folder is not empty; then there is no catalog in the folder.
    """
    if not backup.is_file():
        raise CatalogError(f"there is no backup {backup}")
    with FolderLock(data):
        others = sorted(path.name for path in data.iterdir() if path.name != LOCK)
        if others:
            raise CatalogError(f"{data} is not empty, it holds {others[0]}: restore into a new folder")
        with _incoming(data / CATALOG) as incoming:
            shutil.copyfile(backup, incoming)
            _verify(incoming, None, advance)


@contextlib.contextmanager
def _incoming(path: Path) -> Generator[Path]:
    """A place to write what becomes `path` when it is complete and on disk, or nothing."""
    incoming = path.with_name(f"{path.name}.incoming")
    try:
        incoming.unlink(missing_ok=True)
        incoming.touch()
        yield incoming
        sync(incoming)
        incoming.rename(path)
        sync(path.parent)
    except OSError as error:
        raise CatalogError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        incoming.unlink(missing_ok=True)


def _copy(source: Path, copy: Path, advance: Advance) -> dict[str, int]:
    """Copies as of one moment and returns how many rows there were.

    The open transaction is what makes it one moment: without it, every write of the server would start it anew.
    """
    with (
        translate_errors(source),
        contextlib.closing(connect_reader(source)) as origin,
        contextlib.closing(sqlite3.connect(copy)) as target,
    ):
        check_schema(origin, source)
        origin.execute("BEGIN")
        counts = count_rows(origin)
        origin.backup(
            target,
            pages=_STEP_PAGES,
            progress=lambda _status, remaining, total: advance(1 - remaining / max(1, total)),
        )
        target.execute("PRAGMA journal_mode = DELETE")  # one file, that can be read where nothing can be written
    return counts


def _verify(path: Path, counts: dict[str, int] | None, advance: Advance) -> None:
    with translate_errors(path), contextlib.closing(connect_reader(path, immutable=True)) as connection:
        check_schema(connection, path)
        check_pages(connection, path)
        if counts not in (None, count_rows(connection)):
            raise CatalogDamaged(f"{path} does not hold as much as the catalog that it was copied from")
        check_images(connection, path, advance)
