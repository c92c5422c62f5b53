"""Runs pspsearch on a disk that fails, or so that it is known what a loss of power would leave of its files.

`python -m tests.faults.disk fail FLAG serve ...`: while there is a file FLAG, nothing can be synced.
`python -m tests.faults.disk record SHADOW serve ...`: SHADOW has what was synced, and nothing else.

SQLite calls fsync and fdatasync of the C library through a table in the memory of its own library; their entries there
are exchanged for functions of ours, and Python's for the same.
"""

import ctypes
import errno
import importlib
import json
import mmap
import os
import shutil
import stat
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

_SYNCS = ("fsync", "fdatasync")
_HOOK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, use_errno=True)
_libc = ctypes.CDLL(None, use_errno=True)
_kept: list[object] = []
"""What C holds pointers to."""

Sync = Callable[[int], int]
"""Of a file's number; 0, or -1 with errno."""


def exchange(make: Callable[[Sync], Sync]) -> None:
    """`make` gets the function that syncs, and gives the one to be called instead."""
    hooks = {name: _HOOK(make(getattr(_libc, name))) for name in _SYNCS}
    _kept.extend(hooks.values())
    places = [place for place in _entries() if place[0] in hooks]
    if not places:
        sys.exit("this Python's SQLite calls fsync in a way that cannot be exchanged")
    for name, address in places:
        page = address & ~(mmap.PAGESIZE - 1)
        if _libc.mprotect(ctypes.c_void_p(page), mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_WRITE):
            sys.exit("the table of SQLite's library cannot be written to")
        ctypes.c_void_p.from_address(address).value = ctypes.cast(hooks[name], ctypes.c_void_p).value

    def sync(file: int) -> None:
        ctypes.set_errno(0)
        if hooks["fsync"](file):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    os.fsync = os.fdatasync = sync


def _entries() -> Iterator[tuple[str, int]]:
    """What SQLite's library calls of others, by name, with the address where the pointer to it lies."""
    importlib.import_module("_sqlite3")
    for line in Path("/proc/self/maps").read_text().splitlines():
        where, _, offset, _, _, *path = line.split(maxsplit=5)
        if path and "sqlite3" in Path(path[0]).name and int(offset, 16) == 0:
            yield from _entries_of(int(where.partition("-")[0], 16))


def _entries_of(base: int) -> Iterator[tuple[str, int]]:
    """Of the ELF file that is mapped there."""
    (headers,) = struct.unpack("<Q", ctypes.string_at(base + 32, 8))
    size, count = struct.unpack("<HH", ctypes.string_at(base + 54, 4))
    table: dict[int, int] = {}
    for number in range(count):
        kind, _, _, address = struct.unpack("<IIQQ", ctypes.string_at(base + headers + number * size, 24))
        if kind == 2:  # PT_DYNAMIC
            place = base + address
            while (entry := struct.unpack("<qQ", ctypes.string_at(place, 16)))[0]:
                table[entry[0]] = entry[1]
                place += 16

    def absolute(address: int) -> int:
        return address if address > base else base + address

    names, symbols = absolute(table[5]), absolute(table[6])  # DT_STRTAB, DT_SYMTAB
    for start, length in ((table.get(23), table.get(2, 0)), (table.get(7), table.get(8, 0))):  # DT_JMPREL, DT_RELA
        for number in range(length // 24 if start else 0):
            offset, info, _ = struct.unpack("<QQq", ctypes.string_at(absolute(start or 0) + 24 * number, 24))
            (name,) = struct.unpack("<I", ctypes.string_at(symbols + 24 * (info >> 32), 4))
            yield ctypes.string_at(names + name).decode(), base + offset


def fail(flag: Path) -> None:
    """While there is such a file."""

    def make(real: Sync) -> Sync:
        def sync(file: int) -> int:
            if flag.exists():
                ctypes.set_errno(errno.EIO)
                return -1
            return real(file)

        return sync

    exchange(make)


def record(shadow: Path) -> None:
    """Files by their inodes, as they were at their last sync; folders with the names in them at theirs."""
    turn = threading.Lock()

    def make(real: Sync) -> Sync:
        def sync(file: int) -> int:
            with turn:
                if real(file):
                    return -1
                _keep(Path(f"/proc/self/fd/{file}"), shadow)
                return 0

        return sync

    exchange(make)


def _keep(path: Path, shadow: Path) -> None:
    """As it is now, whole or not at all."""
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
            _keep(path, shadow)


def after_power_loss(data: Path, shadow: Path, target: Path, keep: Callable[[], bool]) -> None:
    """Makes `target` of what is left: a file is what it was at its last sync, or, where `keep` says so, what it is."""
    folders = [json.loads(path.read_text()) for path in shadow.glob("*.folder")]
    names: dict[str, dict[str, int]] = {one["folder"]: one["names"] for one in folders}
    _restore(data, shadow, target, names, keep)


def _restore(
    folder: Path, shadow: Path, target: Path, names: dict[str, dict[str, int]], keep: Callable[[], bool]
) -> None:
    target.mkdir()
    for name, inode in names.get(str(folder), {}).items():
        now, synced = folder / name, shadow / str(inode)
        if now.is_dir():
            _restore(now, shadow, target / name, names, keep)
        elif now.exists() and now.lstat().st_ino == inode and keep():
            shutil.copyfile(now, target / name)
        elif synced.exists():
            shutil.copyfile(synced, target / name)
        else:
            (target / name).touch()


if __name__ == "__main__":
    mode, where, *arguments = sys.argv[1:]
    {"fail": fail, "record": record}[mode](Path(where))
    sys.argv[1:] = arguments
    from pspsearch.cli import main

    main()
