"""The data folder: what lies where in it, and whose it is."""

import fcntl
import os
from pathlib import Path
from typing import Self

from pspsearch.errors import CatalogError

CATALOG = "catalog.sqlite3"
"""The file of the catalog; beside it, while it is open, SQLite's `-wal` and `-shm`."""

LOCK = "lock"
"""Locked, in the kernel's sense, while a process has the folder; empty, and never removed."""


class FolderLock:
    """Makes the folder this process's own until `release`; CatalogError where another process has it.

    The kernel drops the lock when its owner dies, however it dies.
    """

    def __init__(self, folder: Path) -> None:
        """Makes the folder where it is not there."""
        try:
            _make(folder)
            self._lock = _lock(folder / LOCK)
        except BlockingIOError as error:
            raise CatalogError(f"the data folder {folder} belongs to another server that runs") from error
        except OSError as error:
            raise CatalogError(f"the data folder {folder} cannot be used: {error.strerror}") from error

    def release(self) -> None:
        """Gives the folder up; once."""
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def sync(path: Path) -> None:
    """Returns when the content of the file, or the names in the folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock(path: Path) -> int:
    lock = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise
    return lock


def _make(folder: Path) -> None:
    if folder.is_dir():
        return
    _make(folder.parent)
    folder.mkdir(exist_ok=True)
    sync(folder.parent)
