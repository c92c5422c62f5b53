"""The data folder: its files, its lock and its permissions."""

import contextlib
import fcntl
import logging
import os
import stat
from collections.abc import Generator
from pathlib import Path
from typing import Self

from pspsearch.errors import CatalogError

CATALOG = "catalog.sqlite3"
"""The catalog's file; while it is open, SQLite's `-wal` and `-shm` files lie beside it."""

INDEXES = "indexes"
"""The folder of the indexes."""

LOCK = "lock"
"""The file that a process locks in the kernel while it holds the folder; it is empty and never removed."""

PRIVATE, PRIVATE_FOLDER = 0o600, 0o700
"""The modes of new files and folders; SQLite gives its own files the mode of the catalog's."""

_OTHERS = 0o077


log = logging.getLogger(__name__)


class FolderLock:
    """Holds the folder for this process until `release`; CatalogError if another process holds it.

    The kernel drops the lock when its owner dies, however it dies. The lock also makes private what an earlier release
    left open to other users.
    """

    def __init__(self, folder: Path) -> None:
        """Creates the folder if it is missing."""
        try:
            _make(folder)
            self._lock = _lock(folder / LOCK)
        except BlockingIOError as error:
            raise CatalogError(f"the data folder {folder} belongs to another server that is running") from error
        except OSError as error:
            raise CatalogError(f"the data folder {folder} cannot be used: {error.strerror}") from error
        _make_private(folder)

    def release(self) -> None:
        """Releases the folder; call it once."""
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def is_in_use(folder: Path) -> bool:
    """Whether a process holds the folder. Creates and changes nothing."""
    try:
        with (folder / LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


@contextlib.contextmanager
def empty_folder(folder: Path) -> Generator[None]:
    """Holds the folder while the block fills it; CatalogError if it is not empty."""
    with FolderLock(folder):
        others = sorted(path.name for path in folder.iterdir() if path.name != LOCK)
        if others:
            raise CatalogError(f"{folder} is not empty, it holds {others[0]}: restore into a new folder")
        yield


@contextlib.contextmanager
def incoming_file(path: Path) -> Generator[Path]:
    """Yields a private file to write, which becomes `path` when the block ends: complete and on disk, or not at all.

    Raises CatalogError if the file cannot be written.
    """
    incoming = path.with_name(f"{path.name}.incoming")
    try:
        incoming.unlink(missing_ok=True)
        incoming.touch(PRIVATE)
        yield incoming
        sync(incoming)
        incoming.rename(path)
        sync(path.parent)
    except OSError as error:
        raise CatalogError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        incoming.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Returns when the content of the file, or the list of names in the folder, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock(path: Path) -> int:
    lock = os.open(path, os.O_CREAT | os.O_RDWR, PRIVATE)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise
    return lock


def _make(folder: Path, mode: int = PRIVATE_FOLDER) -> None:
    if folder.is_dir():
        return
    _make(folder.parent, 0o777)
    folder.mkdir(mode, exist_ok=True)
    sync(folder.parent)


def _make_private(folder: Path) -> None:
    """Makes pspsearch's own files private, and the folder as well if it holds nothing else."""
    there = list(folder.iterdir())
    own = [path for path in there if path.name in (LOCK, INDEXES) or path.name.startswith(CATALOG)]
    inside = [path for one in own if one.name == INDEXES for path in one.rglob("*")]
    for path in (*([folder] if len(own) == len(there) else []), *own, *inside):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode) or not mode & _OTHERS:
            continue
        try:
            path.chmod(stat.S_IMODE(mode) & ~_OTHERS)
        except OSError as error:
            log.warning("users other than its owner can access %s, which cannot be changed: %s", path, error.strerror)
