"""Backs up a catalog while a server writes to it, and verifies every copy before it is used.

A backup is one file with everything that cannot be made again. It holds no indexes: they are a cache.
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
"""Receives the share of the work that is done, from 0 to 1."""


def back_up(data: Path, destination: Path, advance: Advance = lambda _share: None) -> None:
    """Copies the catalog in `data`, as of one moment, into the new file `destination`; durable on return.

    Any thread or process may call this, even while a server writes; until it returns, that server's log grows by
    whatever is written. Every image is checked against its digest. Raises CatalogError if the backup cannot be made,
    and then leaves no file.
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
    """Restores `backup` into the folder `data`, which must be new or empty; durable on return.

    Raises CatalogError if the backup is damaged or the folder is not empty, and then leaves no catalog in the folder.
    """
    if not backup.is_file():
        raise CatalogError(f"there is no backup {backup}")
    with empty_folder(data), incoming_file(data / CATALOG) as incoming:
        shutil.copyfile(backup, incoming)
        _verify(incoming, None, advance)


def _check_log(data: Path) -> None:
    """Checks the log unless a server holds the folder: that server checked it at its start and is writing to it now."""
    try:
        lock = FolderLock(data)
    except CatalogError:
        return
    with lock:
        check_log(data / CATALOG)


def _copy(source: Path, copy: Path, advance: Advance) -> dict[str, int]:
    """Copies the catalog as of one moment and returns how many rows each table had.

    The open transaction keeps the copy to one moment: without it, every write of the server would start the copy anew.
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
        target.execute("PRAGMA journal_mode = DELETE")  # a single file, readable even where nothing can be written
    return counts


def _verify(path: Path, counts: dict[str, int] | None, advance: Advance) -> None:
    with translate_errors(path), contextlib.closing(connect_reader(path, immutable=True)) as connection:
        check_schema(connection, path)
        check_pages(connection, path)
        if counts not in (None, count_rows(connection)):
            raise CatalogDamaged(f"{path} does not hold as much as the catalog that it was copied from")
        check_images(connection, path, advance)
