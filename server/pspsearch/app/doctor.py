"""Whether a set-up would serve, and what to do where it would not: looked at from outside, and nothing is changed."""

import asyncio
import contextlib
import fcntl
import os
import resource
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

from pspsearch import traces
from pspsearch.callers.tokens import read_tokens
from pspsearch.catalog.connections import connect_reader, translate_errors
from pspsearch.catalog.folder import CATALOG, LOCK
from pspsearch.catalog.integrity import check_pages
from pspsearch.catalog.log import check_log, log_of
from pspsearch.catalog.schema import check_schema
from pspsearch.config import LogSettings, SecuritySettings, ServingSettings, Settings, join_address
from pspsearch.errors import CatalogError, PspsearchError
from pspsearch.memory import available_bytes
from pspsearch.model.repository import check_repository, default_repository
from pspsearch.rpc.tls import credentials, expiry
from pspsearch.triton.bundle import Bundle
from pspsearch.triton.client import TritonClient
from pspsearch.triton.model_config import check_config

_LEAST_FREE_BYTES = 1 << 30
_SLOW_SYNC_S = 0.05
_LEAST_FILES = 1024
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Linux has it
_LEAST_SHARED_BYTES = 128 << 20
_SOON = timedelta(days=14)
_TRITON_S = 5.0
_NETWORK = ("nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "glusterfs", "ceph")
"""File systems on which SQLite's log, which readers and the writer share in memory, is not safe."""


class Grade(StrEnum):
    """How bad it is."""

    GOOD = "good"
    DOUBTFUL = "doubtful"
    BAD = "bad"
    """A server would not start, or not for long."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    grade: Grade
    words: str
    """What there is; where that is not good, with what to do."""


async def examine(settings: Settings) -> AsyncIterator[Finding]:
    """Everything that a server with these settings needs."""
    data = Path(settings.storage.data)
    running = _is_running(data)
    if running:
        yield Finding("server", Grade.GOOD, f"one runs on {data}")
    if os.geteuid() == 0:
        yield Finding("account", Grade.DOUBTFUL, "root, which the server does not need to be: use another")
    for finding in (*_data(data, running=running), *_security(settings.security), *_traces(settings.log)):
        yield finding
    yield await _triton(settings)
    yield _faiss(settings)
    for finding in (*_ports(settings.serving, running=running), *_limits(settings)):
        yield finding


def _is_running(data: Path) -> bool:
    try:
        with (data / LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _data(data: Path, *, running: bool) -> Iterator[Finding]:
    there = next(folder for folder in (data, *data.absolute().parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        words = f"{there} is no folder that this account can write to: chown it, or name another"
        yield Finding("data", Grade.BAD, words)
        return
    yield _file_system(there)
    free = shutil.disk_usage(there).free
    enough = free >= _LEAST_FREE_BYTES
    yield Finding(
        "disk", Grade.GOOD if enough else Grade.DOUBTFUL, f"{free >> 20:,} MiB free" + ("" if enough else ": make room")
    )
    if data.is_dir():
        yield _sync_time(data)
        yield from _catalog(data, running=running)
    else:
        yield Finding("data", Grade.GOOD, f"{data} is not there yet, and will be made")


def _file_system(folder: Path) -> Finding:
    """That of the longest mount point above the folder."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    path = folder.resolve()
    kind = max(((len(where), kind) for where, kind in mounts if path.is_relative_to(where)), default=(0, "unknown"))[1]
    if kind in _NETWORK:
        return Finding("file system", Grade.BAD, f"{folder} is on {kind}: the catalog needs a disk of this machine")
    return Finding("file system", Grade.GOOD, kind)


def _sync_time(data: Path) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=data) as file:
            file.write(bytes(4096))
            started = time.perf_counter()
            file.flush()
            os.fsync(file.fileno())
            taken = time.perf_counter() - started
    except OSError as error:
        return Finding("sync", Grade.BAD, f"{data} takes no file: {error.strerror}")
    words = f"{1000 * taken:.1f} ms until a write is on disk"
    if taken > _SLOW_SYNC_S:
        return Finding("sync", Grade.DOUBTFUL, f"{words}: every acknowledgement waits for that; use a faster disk")
    return Finding("sync", Grade.GOOD, words)


def _catalog(data: Path, *, running: bool) -> Iterator[Finding]:
    path = data / CATALOG
    if not path.exists():
        others = sorted(one.name for one in data.iterdir() if one.name != LOCK)
        if others:
            words = f"{data} has no {CATALOG}, but {others[0]}: name the folder of the catalog, or restore a backup"
            yield Finding("catalog", Grade.BAD, words)
        else:
            yield Finding("catalog", Grade.GOOD, "none yet")
        return
    try:
        if not running:
            check_log(path)
        with (
            translate_errors(path),
            contextlib.closing(
                connect_reader(path, immutable=not log_of(path).exists())  # else SQLite would leave files there
            ) as connection,
        ):
            check_schema(connection, path)
            check_pages(connection, path)
            items: int = connection.execute("SELECT COUNT(*) FROM items").get
    except CatalogError as error:
        yield Finding("catalog", Grade.BAD, str(error))
        return
    yield Finding("catalog", Grade.GOOD, f"sound, with {items:,} items")


def _security(settings: SecuritySettings) -> Iterator[Finding]:
    if settings.tls_certificate:
        yield _certificate(settings)
    if settings.tokens:
        yield from _tokens(Path(settings.tokens))
    if settings.audit_log:
        yield _audit_log(Path(settings.audit_log))
    if settings.is_open and settings.insecure:
        yield Finding("callers", Grade.DOUBTFUL, "insecure: whoever reaches the port can read and change everything")


def _certificate(settings: SecuritySettings) -> Finding:
    try:
        credentials(settings)
    except PspsearchError as error:
        return Finding("certificate", Grade.BAD, str(error))
    expires = expiry(Path(settings.tls_certificate))
    left = expires - datetime.now(UTC)
    if left < _SOON:
        words = f"it is over since {expires:%Y-%m-%d}" if left < timedelta(0) else f"it is over on {expires:%Y-%m-%d}"
        grade = Grade.BAD if left < timedelta(0) else Grade.DOUBTFUL
        return Finding("certificate", grade, f"{words}: put another in its place, also while the server runs")
    return _private(Path(settings.tls_key), "certificate", f"the key fits, until {expires:%Y-%m-%d}")


def _tokens(path: Path) -> Iterator[Finding]:
    try:
        tokens = read_tokens(path)
    except PspsearchError as error:
        yield Finding("tokens", Grade.BAD, str(error))
        return
    now = datetime.now(UTC)
    good = [one for one in tokens if one.is_good(now)]
    if not good:
        yield Finding("tokens", Grade.BAD, f"{path} has no token that is good: nobody can call; create one")
        return
    yield _private(path, "tokens", f"{len(good)} that are good")
    soon = [one.access.holder for one in good if not one.is_good(now + _SOON)]
    if soon:
        words = f"{', '.join(soon)} will be over within {_SOON.days} days: create others in time"
        yield Finding("tokens", Grade.DOUBTFUL, words)


def _audit_log(path: Path) -> Finding:
    """What is there must be a file; where nothing is, one will be made."""
    folder = path.absolute().parent
    if os.access(path, os.F_OK):
        good, words = os.access(path, os.W_OK) and not path.is_dir(), f"{path} is no file"
    else:
        good, words = os.access(folder, os.W_OK | os.X_OK) and folder.is_dir(), f"{folder} is no folder"
    if not good:
        return Finding("audit log", Grade.BAD, f"{words} that this account can write to: chown it, or name another")
    return Finding("audit log", Grade.GOOD, f"{path} can be written")


def _traces(settings: LogSettings) -> Iterator[Finding]:
    if not settings.traces:
        return
    try:
        traces.check_packages()
    except PspsearchError as error:
        yield Finding("traces", Grade.BAD, str(error))
    else:
        yield Finding("traces", Grade.GOOD, f"go to {settings.traces}, which was not asked")


def _private(path: Path, what: str, words: str) -> Finding:
    if path.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP):
        return Finding(what, Grade.DOUBTFUL, f"{words}, but others than its owner can get at {path}: chmod 600 it")
    return Finding(what, Grade.GOOD, words)


async def _triton(settings: Settings) -> Finding:
    model = settings.triton.model
    try:
        if settings.triton.triton:
            return await _served(settings.triton.triton, model)
        Bundle.find()
        root = Path(settings.triton.repository) if settings.triton.repository else default_repository()
        checked = await asyncio.to_thread(check_repository, root)
        if model in checked.broken:
            return Finding("model", Grade.BAD, str(checked.broken[model]))
        if model not in checked.sound:
            return Finding("model", Grade.BAD, f"{root} has no model {model}, but {', '.join(checked.sound)}")
        check_config(root / model)
    except PspsearchError as error:
        return Finding("model", Grade.BAD, str(error))
    return Finding("model", Grade.GOOD, f"{model} in {root} is what was published; the bundled Triton is there")


async def _served(address: str, model: str) -> Finding:
    try:
        async with TritonClient(address) as client:
            await client.wait_until_live(_TRITON_S)
            ready = [state for state in await client.index() if state.model == model and state.ready]
    except PspsearchError as error:
        return Finding("model", Grade.BAD, f"the Triton at {address} cannot be asked: {error}")
    if not ready:
        return Finding("model", Grade.BAD, f"the Triton at {address} does not serve {model}: load it there")
    return Finding("model", Grade.GOOD, f"{model} is served by the Triton at {address}")


def _faiss(settings: Settings) -> Finding:
    try:
        import faiss
    except ImportError:
        words = "no FAISS is installed: pip install 'pspsearch[cpu]', or 'pspsearch[gpu]'"
        return Finding("FAISS", Grade.BAD, words)
    gpus = faiss.get_num_gpus()
    if settings.index.device == "gpu" and not gpus:
        words = "device is gpu, and FAISS finds none: pip install 'pspsearch[gpu]' where there is one, or device = auto"
        return Finding("FAISS", Grade.BAD, words)
    return Finding("FAISS", Grade.GOOD, f"there, with {gpus or 'no'} GPU")


def _ports(settings: ServingSettings, *, running: bool) -> Iterator[Finding]:
    for what, host, port in (
        ("port", settings.host, settings.port),
        ("metrics", "127.0.0.1", settings.metrics_port),
    ):
        if port:
            finding = _port(what, host, port)
            if running and finding.grade is Grade.BAD:
                finding = Finding(what, Grade.GOOD, f"{join_address(host, port)} is taken, as it should be")
            yield finding


def _port(what: str, host: str, port: int) -> Finding:
    address = join_address(host, port)
    try:
        bare = host.strip("[]")
        family, kind, *_, place = socket.getaddrinfo(bare, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, kind) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(place)
    except OSError as error:
        words = f"{address} cannot be bound ({error.strerror}): is a server there already? Else name another"
        return Finding(what, Grade.BAD, words)
    return Finding(what, Grade.GOOD, f"{address} is free")


def _limits(settings: Settings) -> Iterator[Finding]:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _LEAST_FILES + settings.serving.max_calls
    if files != resource.RLIM_INFINITY and files < wanted:
        yield Finding("open files", Grade.DOUBTFUL, f"{files:,} at most: ulimit -n {wanted}")
    else:
        yield Finding("open files", Grade.GOOD, "no end" if files == resource.RLIM_INFINITY else f"{files:,} at most")
    memory = available_bytes()
    wanted = max(settings.index.index_memory_bytes, settings.storage.memory_bytes)
    if wanted > memory:
        words = f"{wanted >> 20:,} MiB are set for it, more than the {memory >> 20:,} that there are: lower it"
        yield Finding("memory", Grade.BAD, words)
    else:
        yield Finding("memory", Grade.GOOD, f"{memory >> 20:,} MiB")
    if not settings.triton.triton:
        shared = shutil.disk_usage(_SHARED_MEMORY).free
        enough = shared >= _LEAST_SHARED_BYTES
        words = f"{shared >> 20:,} MiB free in {_SHARED_MEMORY}"
        advice = "" if enough else f": the bundled Triton wants {_LEAST_SHARED_BYTES >> 20} (docker run --shm-size)"
        yield Finding("shared memory", Grade.GOOD if enough else Grade.BAD, words + advice)
