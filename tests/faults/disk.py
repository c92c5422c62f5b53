"""Runs pspsearch on a disk that fails, or records what a loss of power would leave of its files.

`python -m tests.faults.disk MODE PATH serve ...` fails while the file PATH exists, by MODE:

- `unsynced`: nothing can be synced;
- `full`: no write succeeds after as many as the file says;
- `readonly`: nothing can be written, and no file can be opened for writing.

In the mode `record`, the folder PATH holds what was synced, and nothing else.

SQLite reads and writes through a layer of ours, and Python's own functions are replaced.
"""

import errno
import json
import os
import shutil
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw

from pspsearch.catalog import connections

_LAYER = "tests"
_KEPT: list[object] = []
"""Keeps what SQLite knows only by its name from being collected."""


class Disk:
    """A disk that works; its subclasses fail."""

    def write(self) -> None:
        """Called before anything is written; raises OSError if that fails."""

    def open(self, path: str, flags: int) -> None:
        """Called before a file is opened or a folder made."""

    def sync(self, path: str) -> None:
        """Called before a file's content, or a folder's names, are synced."""

    def synced(self, path: str) -> None:
        """Called after they are synced."""


class Unsynced(Disk):
    """The mode `unsynced`."""

    def __init__(self, flag: Path) -> None:
        self._flag = flag

    def sync(self, path: str) -> None:
        """Reports an error as the kernel would."""
        if self._flag.exists():
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)


class Full(Disk):
    """The mode `full`."""

    def __init__(self, flag: Path) -> None:
        self._flag = flag
        self._writes = 0

    def write(self) -> None:
        """Fails once as many writes as the file says have succeeded."""
        if not self._flag.exists():
            self._writes = 0
        elif self._writes >= int(self._flag.read_text()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        else:
            self._writes += 1

    def open(self, path: str, flags: int) -> None:
        """Fails for a new name, which takes room, too."""
        if flags & os.O_CREAT and not Path(path).exists():
            self.write()


class Readonly(Disk):
    """The mode `readonly`."""

    def __init__(self, flag: Path) -> None:
        self._flag = flag

    def write(self) -> None:
        """Fails also for files that were open before."""
        if self._flag.exists():
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def open(self, path: str, flags: int) -> None:
        """Fails for opening a file to write."""
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            self.write()


class Recorder(Disk):
    """Records files by inode as at their last sync, and folders with their names as at theirs."""

    def __init__(self, shadow: Path) -> None:
        self._shadow = shadow
        self._turn = threading.Lock()

    def synced(self, path: str) -> None:
        """Records the present content, whole or not at all."""
        with self._turn:
            keep(Path(path), self._shadow)


def put_in(disk: Disk) -> None:
    """Makes SQLite and Python use that disk from now on."""

    class File(apsw.VFSFile):
        def __init__(self, name: Any, flags: list[int]) -> None:
            super().__init__(connections.CHECKSUMS, name, flags)
            self.path = name if isinstance(name, str) else name.filename()
            self.is_new = not self.path.endswith(".sqlite3")

        def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
            _translate(disk.write, apsw.SQLITE_IOERR_WRITE)
            super().xWrite(data, offset)

        def xLock(self, level: int) -> None:  # noqa: N802 - SQLite's name
            try:
                super().xLock(level)
            except apsw.IOError as error:  # from a reader that ends; a Python error would weigh more
                raise apsw.BusyError from error

        def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
            _translate(lambda: disk.sync(self.path), apsw.SQLITE_IOERR_FSYNC)
            super().xSync(flags)
            disk.synced(self.path)
            if self.is_new:  # SQLite syncs the folder of a new log with it
                disk.synced(str(Path(self.path).parent))
                self.is_new = False

    class Layer(apsw.VFS):
        def __init__(self) -> None:
            super().__init__(_LAYER, connections.CHECKSUMS)

        def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
            if name is None:  # a temporary file without a name
                return apsw.VFSFile(connections.CHECKSUMS, name, flags)
            path = name if isinstance(name, str) else name.filename()
            if not Path(path).exists():  # SQLite opens an existing file for reading if nothing else works
                _translate(lambda: disk.open(path, os.O_CREAT), apsw.SQLITE_CANTOPEN)
            return File(name, flags)

        def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802 - SQLite's name
            super().xDelete(filename, syncdir)
            if syncdir:
                disk.synced(str(Path(filename).parent))

    _KEPT.append(Layer())
    connections.vfs = _LAYER
    real_open, real_mkdir, real_pwrite = os.open, os.mkdir, os.pwrite

    def sync(file: int, real: Callable[[int], None] = os.fsync) -> None:
        path = str(Path(f"/proc/self/fd/{file}").readlink())
        disk.sync(path)
        real(file)
        disk.synced(path)

    def open_(path: Any, flags: int, *rest: Any, **named: Any) -> int:
        disk.open(str(path), flags)
        return real_open(path, flags, *rest, **named)

    def mkdir(path: Any, *rest: Any, **named: Any) -> None:
        disk.open(str(path), os.O_CREAT)
        real_mkdir(path, *rest, **named)

    def pwrite(file: int, data: Any, offset: int) -> int:
        disk.write()
        return real_pwrite(file, data, offset)

    os.fsync, os.open, os.mkdir, os.pwrite = sync, open_, mkdir, pwrite


def _translate(act: Callable[[], None], otherwise: int) -> None:
    """Turns a disk error into SQLite's own."""
    try:
        act()
    except OSError as error:
        code = apsw.SQLITE_FULL if error.errno == errno.ENOSPC else otherwise
        raise apsw.exception_for(code) from error


def keep(path: Path, shadow: Path) -> None:
    """Stores what a loss of power from now on would leave of the path."""
    found = path.stat()
    kept = shadow / str(found.st_ino)
    if stat.S_ISDIR(found.st_mode):
        folder = path.resolve()
        names = {one.name: one.lstat().st_ino for one in folder.iterdir()}
        content = json.dumps({"folder": str(folder), "names": names}).encode()
        kept = kept.with_suffix(".folder")
    else:
        content = path.read_bytes()
    incoming = shadow / "incoming"
    incoming.write_bytes(content)
    incoming.rename(kept)


def begin_record(data: Path, shadow: Path) -> None:
    """Stores what exists already, as if synced long ago."""
    shadow.mkdir()
    if data.is_dir():
        for path in (data, *data.rglob("*")):
            keep(path, shadow)


def after_power_loss(data: Path, shadow: Path, target: Path, keeps: Callable[[], bool]) -> None:
    """Makes `target` what is left: each file as at its last sync or, if `keeps` says so, as it is now."""
    folders = [json.loads(path.read_text()) for path in shadow.glob("*.folder")]
    names: dict[str, dict[str, int]] = {one["folder"]: one["names"] for one in folders}
    _restore(data, shadow, target, names, keeps)


def _restore(
    folder: Path, shadow: Path, target: Path, names: dict[str, dict[str, int]], keeps: Callable[[], bool]
) -> None:
    target.mkdir()
    for name, inode in names.get(str(folder), {}).items():
        now, synced = folder / name, shadow / str(inode)
        if now.is_dir():
            _restore(now, shadow, target / name, names, keeps)
        elif now.exists() and now.lstat().st_ino == inode and keeps():
            shutil.copyfile(now, target / name)
        elif synced.exists():
            shutil.copyfile(synced, target / name)
        else:
            (target / name).touch()


MODES: dict[str, Callable[[Path], Disk]] = {
    "unsynced": Unsynced,
    "full": Full,
    "readonly": Readonly,
    "record": Recorder,
}

if __name__ == "__main__":
    mode, where, *arguments = sys.argv[1:]
    put_in(MODES[mode](Path(where)))
    sys.argv[1:] = arguments
    from pspsearch.cli import main

    main()
