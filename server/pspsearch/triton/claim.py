"""A name in `/dev/shm` that belongs to a live process, and the sweeping of names whose process is gone.

Everything that a Triton child or a shared-memory ring leaves behind when it is killed starts with such a name.
The claim is a lock file: the kernel drops the lock when its owner dies, however it dies, so what is unlocked is
litter. Process ids would not do: other containers may share `/dev/shm`.
"""

import contextlib
import fcntl
import logging
import os
import secrets
import select
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Self

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the kernel's own folder for it
_PREFIX = "pspsearch-"
_LOCK = "-lock"
_DEATH_S = 5.0

log = logging.getLogger(__name__)


class Claim:
    """A unique prefix for names in `/dev/shm`, and a scratch folder, both swept when the owner is gone."""

    def __init__(self) -> None:
        """Sweeps what dead owners left, then takes a new name."""
        sweep()
        self.prefix, self._lock = _lock_new_name()
        self.folder = _folder(self.prefix)
        self.folder.mkdir(mode=0o700)

    def remove_regions(self, kind: str) -> None:
        """Removes the regions of one kind, left by a child that was killed."""
        for region in SHARED_MEMORY.glob(f"{self.prefix}-{kind}-*"):
            region.unlink(missing_ok=True)

    def release(self) -> None:
        """Removes everything under the name; may be called twice."""
        if self._lock < 0:
            return
        _remove(self.prefix)
        os.close(self._lock)
        self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def sweep() -> None:
    """Removes the regions, folders and processes of every claim whose owner is gone."""
    for lock_path in SHARED_MEMORY.glob(f"{_PREFIX}*{_LOCK}"):
        try:
            lock = os.open(lock_path, os.O_RDWR)
        except OSError:
            continue  # somebody else's, or just swept by somebody else
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            prefix = lock_path.name.removesuffix(_LOCK)
            log.info("sweeping what a killed process left under %s", prefix)
            _remove(prefix)
        except BlockingIOError:
            pass  # its owner lives
        finally:
            os.close(lock)


def _lock_new_name() -> tuple[str, int]:
    """A sweep may take a lock file in the moment before it is locked: then the name is burnt and the next is tried."""
    while True:
        prefix = f"{_PREFIX}{secrets.token_hex(4)}"
        lock = os.open(_lock_path(prefix), os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.fstat(lock).st_nlink:
            return prefix, lock
        os.close(lock)


def _remove(prefix: str) -> None:
    """The lock goes last: a sweep that is itself killed is finished by the next."""
    _kill_processes_naming(prefix)
    for region in SHARED_MEMORY.glob(f"{prefix}*"):
        if region != _lock_path(prefix):
            region.unlink(missing_ok=True)
    shutil.rmtree(_folder(prefix), ignore_errors=True)
    _lock_path(prefix).unlink(missing_ok=True)


def _kill_processes_naming(prefix: str) -> None:
    """Triton and its Python stubs have the prefix in their command lines; returns when they are gone."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            process = os.pidfd_open(int(entry.name))  # opened first: what is killed is what was looked at
            try:
                if prefix.encode() in (entry / "cmdline").read_bytes():
                    signal.pidfd_send_signal(process, signal.SIGKILL)
                    select.select([process], [], [], _DEATH_S)
            finally:
                os.close(process)


def _lock_path(prefix: str) -> Path:
    return SHARED_MEMORY / f"{prefix}{_LOCK}"


def _folder(prefix: str) -> Path:
    return Path(tempfile.gettempdir()) / prefix
