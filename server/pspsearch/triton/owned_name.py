"""A name in `/dev/shm` that a live process owns, and the removal of names whose owner is gone.

Everything that a killed Triton child or shared-memory ring leaves behind starts with such a name. The owner holds a
lock on a file. The kernel drops the lock when the owner dies, however it dies, so an unlocked name is litter. Process
ids would not do, because other containers may share `/dev/shm`.
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
    """A unique prefix for names in `/dev/shm`, and a scratch folder. If the owner is killed, `sweep` removes both."""

    def __init__(self) -> None:
        """Removes what dead owners left, then takes a new name."""
        sweep()
        self.prefix, self._lock = _lock_new_name()
        self.folder = _folder(self.prefix)
        self.folder.mkdir(mode=0o700)

    @property
    def option(self) -> str:
        """The command-line option that puts a Triton's regions and Python processes under this name."""
        return _option(self.prefix)

    def remove_triton_regions(self) -> None:
        """Removes the regions that a killed Triton left under this name."""
        for region in SHARED_MEMORY.glob(f"{self.prefix}-{_REGIONS}*"):
            _unlink(region)

    def release(self) -> None:
        """Removes everything under the name. It may be called twice."""
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
    """Removes the regions, folders and processes under each of this user's names whose owner is gone.

    Anyone can write to `/dev/shm`, so a lock file that is not exactly as `OwnedName` makes it is left alone.
    """
    for lock_path in SHARED_MEMORY.iterdir():
        name = _LOCK_NAME.fullmatch(lock_path.name)
        if name is None:
            continue
        try:
            lock = os.open(lock_path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            continue  # another user's, or another process has just swept it
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
    """Whether this user made the file, for itself alone and under one name."""
    is_private = stat.S_ISREG(lock.st_mode) and not stat.S_IMODE(lock.st_mode) & 0o077
    return is_private and lock.st_uid == os.geteuid() and lock.st_nlink == 1


def _lock_new_name() -> tuple[str, int]:
    """Takes a new name. Another process may sweep the lock file before it is locked; then the next name is tried."""
    while True:
        prefix = f"{_PREFIX}{secrets.token_hex(4)}"
        lock = os.open(_lock_path(prefix), os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.fstat(lock).st_nlink:
            return prefix, lock
        os.close(lock)


def _remove(prefix: str) -> None:
    """Removes everything under a name, the lock last, so that the next sweep finishes one that was killed."""
    _kill_processes(prefix)
    for region in SHARED_MEMORY.glob(f"{prefix}-*"):
        if region != _lock_path(prefix):
            _unlink(region)
    shutil.rmtree(_folder(prefix), ignore_errors=True)
    _unlink(_lock_path(prefix))


def _unlink(path: Path) -> None:
    """Removes a file, unless another user put it there."""
    with contextlib.suppress(OSError):
        path.unlink()


def _kill_processes(prefix: str) -> None:
    """Kills the name's Triton and its Python processes, and waits until they are gone."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            process = os.pidfd_open(int(entry.name))  # opened first: the process checked is the one killed
            try:
                if _belongs(entry, prefix):
                    signal.pidfd_send_signal(process, signal.SIGKILL)
                    select.select([process], [], [], _DEATH_S)
            finally:
                os.close(process)


def _belongs(process: Path, prefix: str) -> bool:
    """Whether the process is this user's, runs one of Triton's programs, and was started under the prefix."""
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
