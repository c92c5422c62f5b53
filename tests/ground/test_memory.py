"""Writes are refused when the memory is nearly full."""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from pspsearch.errors import MemoryFull
from pspsearch.memory import MemoryBound, available_bytes

ALLOCATES = """
from pspsearch.memory import taken_bytes
before = taken_bytes()
kept = b"x" * (64 << 20)
print(before, taken_bytes())
"""

THREADS = """
import ctypes, sys, threading
from pspsearch.memory import share_heaps
if sys.argv[1] == "shared":
    share_heaps()
library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
together = threading.Barrier(8)
def allocate():
    together.wait()
    assert library.malloc(1000)
    together.wait()
threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
library.fdopen.restype = ctypes.c_void_p
library.malloc_info(0, ctypes.c_void_p(library.fdopen(1, b"w")))
library.fflush(None)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="another C library: it has no such heaps")
@pytest.mark.parametrize(("how", "expected"), [("each", range(3, 17)), ("shared", range(1, 3))])
def test_threads_share_two_heaps(how: str, expected: range) -> None:
    """They share two heaps, however many threads there are."""
    told = subprocess.run([sys.executable, "-c", THREADS, how], check=True, capture_output=True, text=True).stdout

    assert told.count("<heap ") in expected


def test_what_a_process_takes_is_counted() -> None:
    """It counts what is allocated, and less than there is. The process is its own, so that nothing is given back."""
    told = subprocess.run([sys.executable, "-c", ALLOCATES], check=True, capture_output=True, text=True).stdout
    before, after = map(int, told.split())

    assert after - before == pytest.approx(64 << 20, rel=0.1)
    assert after < available_bytes()


MACHINE = available_bytes(Path("/nowhere"), Path("/nowhere"))
UNIT = "system.slice/pspsearch.service"


@pytest.mark.parametrize(
    ("own", "limits", "expected"),
    [
        (f"0::/{UNIT}", {f"{UNIT}/memory.max": "300"}, 300),
        (f"0::/{UNIT}", {f"{UNIT}/memory.max": "max", "system.slice/memory.max": "200"}, 200),
        (f"0::/{UNIT}", {f"{UNIT}/memory.max": "300", "system.slice/memory.max": "200", "memory.max": "400"}, 200),
        (f"0::/{UNIT}", {"another.slice/memory.max": "100"}, MACHINE),
        (f"0::/{UNIT}", {"memory.max": "400"}, 400),
        (f"4:memory:/{UNIT}", {f"memory/{UNIT}/memory.limit_in_bytes": "300"}, 300),
        (f"4:cpu,memory:/{UNIT}\n1:name=systemd:/\n0::/", {"memory/system.slice/memory.limit_in_bytes": "200"}, 200),
        ("4:memory:/docker/0f", {"memory/memory.limit_in_bytes": "400"}, 400),
        ("4:memory:/", {"memory/memory.limit_in_bytes": str(1 << 62)}, MACHINE),
        (None, {"memory.max": "400"}, 400),
        ("", {}, MACHINE),
    ],
)
def test_least_bound_of_the_groups_around_counts(
    tmp_path: Path, own: str | None, limits: dict[str, str], expected: int
) -> None:
    """The bound is the least of a service's, its slice's and a container's, in both versions of control groups."""
    if own is not None:
        (tmp_path / "own").write_text(own + "\n" if own else "")
    for name, text in limits.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")

    assert available_bytes(tmp_path, tmp_path / "own") == expected


def test_bound_is_held_and_given_back() -> None:
    """A tenth is left for calls under way; the memory is looked at twenty times a second."""
    taken, now, given_back = [800], [0.0], list[float]()
    bound = MemoryBound(1_000, lambda: taken[0], lambda: given_back.append(now[0]), lambda: now[0])
    bound.check()

    taken[0] = 901
    bound.check()
    now[0] = 0.05
    with pytest.raises(MemoryFull, match="the server's memory is full"):
        bound.check()
    assert given_back == [0.05]
    taken[0] = 899
    now[0] = 0.1
    bound.check()


def test_what_is_only_kept_for_later_is_given_back_first() -> None:
    """After that there may be room; it is tried at most once a second, because it takes a while."""
    taken, now, given_back = [950], [0.0], list[float]()

    def give_back() -> None:
        given_back.append(now[0])
        taken[0] = 700

    bound = MemoryBound(1_000, lambda: taken[0], give_back, lambda: now[0])
    bound.check()
    taken[0], now[0] = 950, 0.5
    with pytest.raises(MemoryFull):
        bound.check()
    now[0] = 1.0
    bound.check()

    assert given_back == [0.0, 1.0]
