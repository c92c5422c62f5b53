"""The data folder: what lies where in it, and whose it is."""

import contextlib
import fcntl
import os
from collections.abc import Generator
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


@contextlib.contextmanager
def empty_folder(folder: Path) -> Generator[None]:
    """This process's own while it is filled; CatalogError where there is anything in it."""
    with FolderLock(folder):
        others = sorted(path.name for path in folder.iterdir() if path.name != LOCK)
        if others:
            raise CatalogError(f"{folder} is not empty, it holds {others[0]}: restore into a new folder")
        yield


@contextlib.contextmanager
def incoming_file(path: Path) -> Generator[Path]:
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
