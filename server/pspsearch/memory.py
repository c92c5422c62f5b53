"""Measures the memory that there is, and bounds how much of it is taken."""

import contextlib
import ctypes
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from pspsearch.errors import MemoryFull

_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")
_LOOK_S = 0.05
_GIVE_BACK_S = 1.0
_M_ARENA_MAX = -8
_HEAPS = 2
_SHARE = 0.9
"""The share of the bound above which nothing more is taken in, because calls under way need some memory, too."""


def available_bytes(groups: Path = _GROUPS, own: Path = _OWN_GROUPS) -> int:
    """Returns the memory of the machine, or less if the container or the service may take less.

    `groups` is where the kernel shows its control groups, `own` names those of this process.
    """
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in _limit_files(groups, own):
        with contextlib.suppress(OSError, ValueError):  # the limit may be `max`
            limits.append(int(path.read_text()))
    return min(limits)


def _limit_files(groups: Path, own: Path) -> Iterator[Path]:
    """Yields the limit of each group that the process is in and of those around it, in both versions of control groups.

    In a container its own group is the root, whatever `own` says.
    """
    roots = {"": (groups, "memory.max"), "memory": (groups / "memory", "memory.limit_in_bytes")}
    lines = ["0::/", "0:memory:/"]
    with contextlib.suppress(OSError):
        lines += own.read_text().splitlines()
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            if controller in roots:
                root, name = roots[controller]
                inner = PurePosixPath(path.lstrip("/"))
                yield from (root / group / name for group in (inner, *inner.parents))


def taken_bytes() -> int:
    """Returns what this process takes, without mapped files, which the kernel can reclaim; 0 if that is unknown."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) << 10
    return 0


def give_back() -> None:
    """Gives the kernel what the C library keeps for later, which can be a quarter of all, if the library can."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def share_heaps() -> None:
    """Makes all later threads share two heaps, instead of up to eight a core.

    Each heap keeps what large requests leave in it: on two cores 550 MiB, but with two heaps 300.
    """
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _HEAPS)


class MemoryBound:
    """Bounds what the process may take; for the tasks of one event loop."""

    def __init__(
        self,
        most_bytes: int,
        taken: Callable[[], int] = taken_bytes,
        give_back: Callable[[], None] = give_back,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most_bytes = most_bytes
        self._taken = taken
        self._give_back = give_back
        self._clock = clock
        self._looked = -_LOOK_S
        self._gave_back = -_GIVE_BACK_S
        self._is_full = False

    def check(self) -> None:
        """Raises MemoryFull if nothing more should be taken in."""
        now = self._clock()
        if now - self._looked >= _LOOK_S:
            self._looked = now
            self._is_full = self._look()
            if self._is_full and now - self._gave_back >= _GIVE_BACK_S:
                self._gave_back = now
                self._give_back()
                self._is_full = self._look()
        if self._is_full:
            raise MemoryFull(f"the server's memory is full: it may take {self._most_bytes >> 20:,} MiB")

    def _look(self) -> bool:
        return self._taken() > _SHARE * self._most_bytes
