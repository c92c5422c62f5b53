"""Checks whether the data folder suits a catalog and whether the catalog in it is sound. Changes nothing."""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pspsearch.catalog.connections import connect_reader, translate_errors
from pspsearch.catalog.folder import CATALOG, LOCK
from pspsearch.catalog.integrity import check_pages
from pspsearch.catalog.log import check_log, log_of
from pspsearch.catalog.schema import check_schema
from pspsearch.errors import CatalogError
from pspsearch.findings import Finding, Grade

_LEAST_FREE_BYTES = 1 << 30
_SLOW_SYNC_S = 0.05
_NETWORK = ("nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "glusterfs", "ceph")
"""Network file systems. SQLite's log is unsafe there, because readers and the writer share it in memory."""


def examine_data(data: Path, *, running: bool) -> Iterator[Finding]:
    """Examines the disk and the folder; skips the log if a server is running, because that server checked it itself."""
    there = next(folder for folder in (data, *data.absolute().parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        words = f"{there} is no folder that this account can write to: chown it, or name another"
        yield Finding("data", Grade.BAD, words)
        return
    yield _examine_file_system(there)
    free = shutil.disk_usage(there).free
    enough = free >= _LEAST_FREE_BYTES
    yield Finding(
        "disk", Grade.GOOD if enough else Grade.DOUBTFUL, f"{free >> 20:,} MiB free" + ("" if enough else ": make room")
    )
    if data.is_dir():
        yield _examine_sync(data)
        yield _examine_catalog(data, running=running)
    else:
        yield Finding("data", Grade.GOOD, f"{data} is not there yet, and will be made")


def _examine_file_system(folder: Path) -> Finding:
    """Judges the file system of the longest mount point above the folder."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    path = folder.resolve()
    kind = max(((len(where), kind) for where, kind in mounts if path.is_relative_to(where)), default=(0, "unknown"))[1]
    if kind in _NETWORK:
        return Finding("file system", Grade.BAD, f"{folder} is on {kind}: the catalog needs a local disk")
    return Finding("file system", Grade.GOOD, kind)


def _examine_sync(data: Path) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=data) as file:
            file.write(bytes(4096))
            started = time.perf_counter()
            file.flush()
            os.fsync(file.fileno())
            taken = time.perf_counter() - started
    except OSError as error:
        return Finding("sync", Grade.BAD, f"no file can be written in {data}: {error.strerror}")
    words = f"{1000 * taken:.1f} ms until a write is on disk"
    if taken > _SLOW_SYNC_S:
        return Finding("sync", Grade.DOUBTFUL, f"{words}: every acknowledgement waits for that; use a faster disk")
    return Finding("sync", Grade.GOOD, words)


def _examine_catalog(data: Path, *, running: bool) -> Finding:
    path = data / CATALOG
    if not path.exists():
        others = sorted(one.name for one in data.iterdir() if one.name != LOCK)
        if others:
            words = f"{data} has no {CATALOG}, but {others[0]}: name the folder of the catalog, or restore a backup"
            return Finding("catalog", Grade.BAD, words)
        return Finding("catalog", Grade.GOOD, "none yet")
    try:
        if not running:
            check_log(path)
        with (
            translate_errors(path),
            contextlib.closing(
                connect_reader(path, immutable=not log_of(path).exists())  # otherwise SQLite would leave files there
            ) as connection,
        ):
            check_schema(connection, path)
            check_pages(connection, path)
            items: int = connection.execute("SELECT COUNT(*) FROM items").get
    except CatalogError as error:
        return Finding("catalog", Grade.BAD, str(error))
    return Finding("catalog", Grade.GOOD, f"sound, with {items:,} items")
