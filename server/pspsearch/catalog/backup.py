"""Copies of a catalog: made while a server writes, and looked at before they are trusted.

A backup is one file with all that cannot be made again. Indexes are not in it: they are a cache.
"""

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

from pspsearch.catalog.connections import connect_new, connect_reader, translate_errors
from pspsearch.catalog.folder import CATALOG, FolderLock, empty_folder, incoming_file
from pspsearch.catalog.integrity import check_images, check_pages, count_rows
from pspsearch.catalog.log import check_log
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
    _check_log(data)
    with incoming_file(destination) as incoming:
        counts = _copy(source, incoming, lambda share: advance(share / 2))
        _verify(incoming, counts, lambda share: advance((1 + share) / 2))


def restore(backup: Path, data: Path, advance: Advance = lambda _share: None) -> None:
    """Makes the folder `data`, which must be new or empty, that of a catalog like `backup`; durable on return.

    CatalogError where the backup is damaged or the folder is not empty; then there is no catalog in the folder.
    """
    if not backup.is_file():
        raise CatalogError(f"there is no backup {backup}")
    with empty_folder(data), incoming_file(data / CATALOG) as incoming:
        shutil.copyfile(backup, incoming)
        _verify(incoming, None, advance)


def _check_log(data: Path) -> None:
    """Where a server runs, it has looked through the log when it started, and writes to it."""
    try:
        lock = FolderLock(data)
    except CatalogError:
        return
    with lock:
        check_log(data / CATALOG)


def _copy(source: Path, copy: Path, advance: Advance) -> dict[str, int]:
    """Copies as of one moment and returns how many rows there were.

    The open transaction is what makes it one moment: without it, every write of the server would start it anew.
    """
    with (
        translate_errors(source),
        contextlib.closing(connect_reader(source)) as origin,
        contextlib.closing(connect_new(copy)) as target,
    ):
        check_schema(origin, source)
        origin.execute("BEGIN")
        counts = count_rows(origin)
        with target.backup("main", origin, "main") as copying:
            while not copying.done:
                copying.step(_STEP_PAGES)
                advance(1 - copying.remaining / max(1, copying.page_count))
        target.execute("PRAGMA journal_mode = DELETE")  # one file, that can be read where nothing can be written
    return counts


def _verify(path: Path, counts: dict[str, int] | None, advance: Advance) -> None:
    with translate_errors(path), contextlib.closing(connect_reader(path, immutable=True)) as connection:
        check_schema(connection, path)
        check_pages(connection, path)
        if counts not in (None, count_rows(connection)):
            raise CatalogDamaged(f"{path} does not hold as much as the catalog that it was copied from")
        check_images(connection, path, advance)
