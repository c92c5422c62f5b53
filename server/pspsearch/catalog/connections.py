"""How a catalog file is opened, and what SQLite's errors mean."""

import contextlib
from collections.abc import Generator
from pathlib import Path

import apsw
import apsw.sqlite_extra

from pspsearch.errors import CatalogDamaged, CatalogError, DiskFailed, StorageFull, StorageReadOnly

CHECKSUMS = "cksmvfs"
"""SQLite's own layer between its pages and their file: each page ends in a checksum, looked at when it is read."""

_CHECKSUM_BYTES = 8

vfs = CHECKSUMS
"""What files are read and written through; tests put a disk that fails in between."""

_BUSY_TIMEOUT_MS = 10_000
_MAX_IDLE_WAL_BYTES = 64 * 1024 * 1024
_DAMAGE = (apsw.SQLITE_CORRUPT, apsw.SQLITE_NOTADB)
_FAILED = (apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_DIR_FSYNC)
_UNWRITABLE = (apsw.SQLITE_IOERR_WRITE, apsw.SQLITE_IOERR_TRUNCATE, apsw.SQLITE_READONLY)

with contextlib.closing(apsw.Connection(":memory:")) as _any:
    apsw.sqlite_extra.load(_any, "cksumvfs")  # stays for as long as the process


def connect_new(path: Path) -> apsw.Connection:
    """A connection to a file that is empty or not there, whose pages will have checksums."""
    connection = _connect(path, "mode=rwc")
    add_checksums(connection)
    return connection


def connect_writer(path: Path) -> apsw.Connection:
    """The one connection that writes to a file that is there: a committed transaction is on disk.

    For one thread at a time.
    """
    connection = _connect(path, "mode=rw")
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA journal_size_limit = {_MAX_IDLE_WAL_BYTES}")
        connection.execute("PRAGMA secure_delete = FAST")  # some builds overwrite every deleted image
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(path: Path, *, immutable: bool = False) -> apsw.Connection:
    """A connection that cannot write, for one thread at a time.

    `immutable` is for a file that nobody writes to: no lock is taken and no file appears beside it.
    """
    return _connect(path, "immutable=1" if immutable else "mode=ro")


def add_checksums(connection: apsw.Connection) -> None:
    """Writes the file anew, each page with its checksum, or not at all; CatalogError where others have it open."""
    connection.execute("PRAGMA journal_mode = DELETE")  # the log of the other mode keeps the pages' form
    connection.reserve_bytes(reserve=_CHECKSUM_BYTES)
    connection.execute("VACUUM")
    if not has_checksums(connection):
        raise CatalogError("the catalog is to be written anew, and another program reads it: try again")


def has_checksums(connection: apsw.Connection) -> bool:
    """Whether they are looked at: of a file that has been read from."""
    return connection.execute("PRAGMA checksum_verification").get == "1"


def _connect(path: Path, options: str) -> apsw.Connection:
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI  # the options say what of it
    connection = apsw.Connection(f"{path.absolute().as_uri()}?{options}", flags, vfs)
    connection.set_busy_timeout(_BUSY_TIMEOUT_MS)
    return connection


def damage(what: str) -> CatalogDamaged:
    """With what to do about it."""
    return CatalogDamaged(f"{what}; restore a backup, or take out what is whole with pspsearch salvage")


@contextlib.contextmanager
def translate_errors(path: Path) -> Generator[None]:
    """Turns what SQLite raises about the file into a CatalogError, StorageFull or StorageReadOnly."""
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
    """Ends what is in it at the first damage."""
    try:
        yield
    except (apsw.Error, UnicodeDecodeError) as error:
        if not _damage_of(error):
            raise


def _damage_of(error: apsw.Error | UnicodeDecodeError) -> str:
    """In words; none where it is something else."""
    if isinstance(error, UnicodeDecodeError):  # of a column, or of SQLite's own message
        return "it holds text that cannot be read"
    if error.extendedresult == apsw.SQLITE_IOERR_DATA:
        return "the checksum of a page is wrong"
    return str(error) if error.extendedresult & 0xFF in _DAMAGE else ""
