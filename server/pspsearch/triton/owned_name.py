"""A name in `/dev/shm` that belongs to a live process, and the sweeping of names whose process is gone.

Everything that a Triton child or a shared-memory ring leaves behind when it is killed starts with such a name.
The claim is a lock file: the kernel drops the lock when its owner dies, however it dies, so what is unlocked is
litter. Process ids would not do: other containers may share `/dev/shm`.
"""

import contextlib
import fcntl
import logging
import os
import re
import secrets
import select
import shutil
import signal
import stat
import tempfile
from pathlib import Path
from typing import Self

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the kernel's own folder for it
_PREFIX = "pspsearch-"
_LOCK = "-lock"
_LOCK_NAME = re.compile(rf"({_PREFIX}[0-9a-f]{{8}}){_LOCK}")
_REGIONS = "triton-"
_TRITON, _STUB = "tritonserver", "triton_python_backend_stub"
_DEATH_S = 5.0

log = logging.getLogger(__name__)


class OwnedName:
    """A unique prefix for names in `/dev/shm`, and a scratch folder, both swept when the owner is gone."""

    def __init__(self) -> None:
        """Sweeps what dead owners left, then takes a new name."""
        sweep()
        self.prefix, self._lock = _lock_new_name()
        self.folder = _folder(self.prefix)
        self.folder.mkdir(mode=0o700)

    @property
    def option(self) -> str:
        """What a Triton is started with whose regions, Python processes and end belong to this name."""
        return _option(self.prefix)

    def remove_triton_regions(self) -> None:
        """Removes what a Triton of this name left that was killed."""
        for region in SHARED_MEMORY.glob(f"{self.prefix}-{_REGIONS}*"):
            _unlink(region)

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
    """Removes the regions, folders and processes of every claim of this user whose owner is gone.

    Everybody can write to `/dev/shm`: what is not exactly as `OwnedName` makes it is somebody else's, and left alone.
    """
    for lock_path in SHARED_MEMORY.iterdir():
        name = _LOCK_NAME.fullmatch(lock_path.name)
        if name is None:
            continue
        try:
            lock = os.open(lock_path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            continue  # somebody else's, or just swept by somebody else
        try:
            if _is_own(os.fstat(lock)):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                log.info("sweeping what a killed process left under %s", name[1])
                _remove(name[1])
        except BlockingIOError:
            pass  # its owner lives
        finally:
            os.close(lock)


def _is_own(lock: os.stat_result) -> bool:
    """A file that this user made for itself alone, and under one name."""
    is_private = stat.S_ISREG(lock.st_mode) and not stat.S_IMODE(lock.st_mode) & 0o077
    return is_private and lock.st_uid == os.geteuid() and lock.st_nlink == 1


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
    _kill_processes(prefix)
    for region in SHARED_MEMORY.glob(f"{prefix}-*"):
        if region != _lock_path(prefix):
            _unlink(region)
    shutil.rmtree(_folder(prefix), ignore_errors=True)
    _unlink(_lock_path(prefix))


def _unlink(path: Path) -> None:
    """What somebody else put under the name stays."""
    with contextlib.suppress(OSError):
        path.unlink()


def _kill_processes(prefix: str) -> None:
    """Of the claim's Triton and its Python processes; returns when they are gone."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            process = os.pidfd_open(int(entry.name))  # opened first: what is killed is what was looked at
            try:
                if _belongs(entry, prefix):
                    signal.pidfd_send_signal(process, signal.SIGKILL)
                    select.select([process], [], [], _DEATH_S)
            finally:
                os.close(process)


def _belongs(process: Path, prefix: str) -> bool:
    """Whether it is this user's, runs one of Triton's programs, and was started under the prefix."""
    if process.stat().st_uid != os.geteuid():
        return False
    program = (process / "exe").readlink().name.removesuffix(" (deleted)")
    arguments = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
    if program == _TRITON:
        return _option(prefix) in arguments
    return program == _STUB and any(argument.startswith(f"{prefix}-{_REGIONS}") for argument in arguments)


def _option(prefix: str) -> str:
    return f"--backend-config=python,shm-region-prefix-name={prefix}-{_REGIONS}"


def _lock_path(prefix: str) -> Path:
    return SHARED_MEMORY / f"{prefix}{_LOCK}"


def _folder(prefix: str) -> Path:
    return Path(tempfile.gettempdir()) / prefix
