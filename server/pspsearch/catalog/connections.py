"""How a catalog file is opened, and what SQLite's errors mean."""

import contextlib
import sqlite3
from collections.abc import Generator
from pathlib import Path

from pspsearch.errors import CatalogDamaged, CatalogError, DiskFailed, StorageFull

_BUSY_TIMEOUT_S = 10.0
_MAX_IDLE_WAL_BYTES = 64 * 1024 * 1024
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_FAILED = (sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC)


def connect_writer(path: Path) -> sqlite3.Connection:
    """The one connection that writes to a file that is there: a committed transaction is on disk.

    For one thread at a time.
    """
    connection = _connect(path, "mode=rw")
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA journal_size_limit = {_MAX_IDLE_WAL_BYTES}")
        connection.execute("PRAGMA secure_delete = FAST")  # some builds overwrite every deleted image
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(path: Path, *, immutable: bool = False) -> sqlite3.Connection:
    """A connection that cannot write, for one thread at a time.

    `immutable` is for a file that nobody writes to: no lock is taken and no file appears beside it.
    """
    return _connect(path, "immutable=1" if immutable else "mode=ro")


def _connect(path: Path, options: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?{options}",
        uri=True,
        timeout=_BUSY_TIMEOUT_S,
        isolation_level=None,  # transactions begin where it says BEGIN
        check_same_thread=False,
    )


@contextlib.contextmanager
def translate_errors(path: Path) -> Generator[None]:
    """Turns what SQLite raises about the file into a CatalogError, or StorageFull."""
    try:
        yield
    except UnicodeDecodeError as error:  # Python could not read SQLite's own message, which quotes a damaged schema
        raise CatalogDamaged(f"the catalog {path} is damaged: its schema cannot be read; restore a backup") from error
    except sqlite3.Error as error:
        if _is_damage(error):
            raise CatalogDamaged(f"the catalog {path} is damaged: {error}; restore a backup") from error
        code = getattr(error, "sqlite_errorcode", None)
        if code == sqlite3.SQLITE_FULL:
            raise StorageFull("the server's disk is full") from error
        if code in _FAILED:
            raise DiskFailed(f"the disk of the catalog {path} has failed: {error}") from error
        raise CatalogError(f"the catalog {path} cannot be read or written: {error}") from error


def _is_damage(error: sqlite3.Error) -> bool:
    """Text that is no UTF-8 is an error of Python's own, without SQLite's code."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return isinstance(error, sqlite3.OperationalError)
    return code & 0xFF in _DAMAGE
