"""Opens catalog files and translates SQLite's errors."""

import contextlib
from collections.abc import Generator
from pathlib import Path

import apsw
import apsw.sqlite_extra

from pspsearch.errors import CatalogDamaged, CatalogError, DiskFailed, StorageFull, StorageReadOnly

CHECKSUMS = "cksmvfs"
"""SQLite's VFS that ends each page in a checksum and verifies it when the page is read."""

_CHECKSUM_BYTES = 8

vfs = CHECKSUMS
"""The VFS that all files go through; tests insert a failing disk here."""

_BUSY_TIMEOUT_MS = 10_000
_MAX_IDLE_WAL_BYTES = 64 * 1024 * 1024
_DAMAGE = (apsw.SQLITE_CORRUPT, apsw.SQLITE_NOTADB)
_FAILED = (apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_DIR_FSYNC)
_UNWRITABLE = (apsw.SQLITE_IOERR_WRITE, apsw.SQLITE_IOERR_TRUNCATE, apsw.SQLITE_READONLY)

with contextlib.closing(apsw.Connection(":memory:")) as _any:
    apsw.sqlite_extra.load(_any, "cksumvfs")  # stays loaded for the life of the process


def connect_new(path: Path) -> apsw.Connection:
    """Opens a file that is empty or missing; its pages will have checksums."""
    connection = _connect(path, "mode=rwc")
    add_checksums(connection)
    return connection


def connect_writer(path: Path) -> apsw.Connection:
    """Opens an existing file for its only writer: a committed transaction is on disk.

    Only one thread at a time may use the connection.
    """
    connection = _connect(path, "mode=rw")
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA journal_size_limit = {_MAX_IDLE_WAL_BYTES}")
        connection.execute("PRAGMA secure_delete = FAST")  # in some builds the default overwrites every deleted image
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(path: Path, *, immutable: bool = False) -> apsw.Connection:
    """Opens a read-only connection, for one thread at a time.

    Set `immutable` for a file that nobody writes to: then no lock is taken and no file appears beside it.
    """
    return _connect(path, "immutable=1" if immutable else "mode=ro")


def add_checksums(connection: apsw.Connection) -> None:
    """Rewrites the file with a checksum on each page, or not at all; CatalogError if another program has it open."""
    connection.execute("PRAGMA journal_mode = DELETE")  # in WAL mode VACUUM keeps the pages' layout
    connection.reserve_bytes(reserve=_CHECKSUM_BYTES)
    connection.execute("VACUUM")
    if not has_checksums(connection):
        raise CatalogError("the catalog must be rewritten, and another program is reading it: try again")


def has_checksums(connection: apsw.Connection) -> bool:
    """Whether SQLite verifies page checksums; known only after the file has been read from."""
    return connection.execute("PRAGMA checksum_verification").get == "1"


def _connect(path: Path, options: str) -> apsw.Connection:
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI  # the URI narrows them
    connection = apsw.Connection(f"{path.absolute().as_uri()}?{options}", flags, vfs)
    connection.set_busy_timeout(_BUSY_TIMEOUT_MS)
    return connection


def damage(what: str) -> CatalogDamaged:
    """The error for this damage, with advice on what to do."""
    return CatalogDamaged(f"{what}; restore a backup, or take out what is whole with pspsearch salvage")


@contextlib.contextmanager
def translate_errors(path: Path) -> Generator[None]:
    """Turns SQLite's errors about the file into a CatalogError, StorageFull or StorageReadOnly."""
    try:
        yield
    except (apsw.Error, UnicodeDecodeError) as error:
        if what := _damage_of(error):
            raise damage(f"the catalog {path} is damaged: {what}") from error
        code = getattr(error, "extendedresult", None)
        if code == apsw.SQLITE_FULL:
            raise StorageFull("the server's disk is full") from error
        if code in _UNWRITABLE:
            raise StorageReadOnly("the server's disk takes no writes") from error
        if code in _FAILED:
            raise DiskFailed(f"the disk of the catalog {path} has failed: {error}") from error
        raise CatalogError(f"the catalog {path} cannot be read or written: {error}") from error


@contextlib.contextmanager
def passing_over_damage() -> Generator[None]:
    """Ends the block at the first damage without an error; lets other errors through."""
    try:
        yield
    except (apsw.Error, UnicodeDecodeError) as error:
        if not _damage_of(error):
            raise


def _damage_of(error: apsw.Error | UnicodeDecodeError) -> str:
    """Describes the damage in words; empty if the error means something else."""
    if isinstance(error, UnicodeDecodeError):  # in a column, or in SQLite's own message
        return "it holds text that cannot be read"
    if error.extendedresult == apsw.SQLITE_IOERR_DATA:
        return "the checksum of a page is wrong"
    return str(error) if error.extendedresult & 0xFF in _DAMAGE else ""
