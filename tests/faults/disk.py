"""Runs pspsearch on a disk that fails, or so that it is known what a loss of power would leave of its files.

`python -m tests.faults.disk MODE PATH serve ...`: while there is a file PATH,

- `unsynced`: nothing can be synced;
- `full`: nothing can be written any more after so many writes as the file says;
- `readonly`: nothing can be written, and no file can be opened for it.

With the mode `record`, the folder PATH has what was synced, and nothing else.

SQLite reads and writes through a layer of ours, and Python's own functions are exchanged for others.
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
"""What SQLite knows by its name alone."""


class Disk:
    """One that works; each fault is one that does not."""

    def write(self) -> None:
        """Before anything is written; OSError where that fails."""

    def open(self, path: str, flags: int) -> None:
        """Before a file is opened, or a folder made."""

    def sync(self, path: str) -> None:
        """Before what was written to a file, or the names in a folder, are put onto the disk."""

    def synced(self, path: str) -> None:
        """They are there now."""


class Unsynced(Disk):
    """See above."""

    def __init__(self, flag: Path) -> None:
        self._flag = flag

    def sync(self, path: str) -> None:
        """The kernel has an error to tell."""
        if self._flag.exists():
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)


class Full(Disk):
    """See above."""

    def __init__(self, flag: Path) -> None:
        self._flag = flag
        self._writes = 0

    def write(self) -> None:
        """Some still find room."""
        if not self._flag.exists():
            self._writes = 0
        elif self._writes >= int(self._flag.read_text()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        else:
            self._writes += 1

    def open(self, path: str, flags: int) -> None:
        """A new name takes room, too."""
        if flags & os.O_CREAT and not Path(path).exists():
            self.write()


class Readonly(Disk):
    """See above."""

    def __init__(self, flag: Path) -> None:
        self._flag = flag

    def write(self) -> None:
        """As files that were open before it became so."""
        if self._flag.exists():
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def open(self, path: str, flags: int) -> None:
        """As all others."""
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            self.write()


class Recorder(Disk):
    """Files by their inodes, as they were at their last sync; folders with the names in them at theirs."""

    def __init__(self, shadow: Path) -> None:
        self._shadow = shadow
        self._turn = threading.Lock()

    def synced(self, path: str) -> None:
        """As it is now, whole or not at all."""
        with self._turn:
            keep(Path(path), self._shadow)


def put_in(disk: Disk) -> None:
    """From now on SQLite and Python have that one."""

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
            except apsw.IOError as error:  # of a reader that ends; one from Python would weigh more
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
            if name is None:  # a file for a moment, without a name
                return apsw.VFSFile(connections.CHECKSUMS, name, flags)
            path = name if isinstance(name, str) else name.filename()
            if not Path(path).exists():  # what is there, SQLite opens for reading if nothing else can be had
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
    """SQLite's own error where it is one of the disk's."""
    try:
        act()
    except OSError as error:
        code = apsw.SQLITE_FULL if error.errno == errno.ENOSPC else otherwise
        raise apsw.exception_for(code) from error


def keep(path: Path, shadow: Path) -> None:
    """What a loss of power would leave of it from now on."""
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
    """What is there already has been on disk for long."""
    shadow.mkdir()
    if data.is_dir():
        for path in (data, *data.rglob("*")):
            keep(path, shadow)


def after_power_loss(data: Path, shadow: Path, target: Path, keeps: Callable[[], bool]) -> None:
    """Makes `target` of what is left: a file is what it was at its last sync, or, where `keeps` says so, what it is."""
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
