"""The ring of pixel cells, and the names it and Triton have in /dev/shm."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pspsearch.triton.claim import SHARED_MEMORY, Claim, sweep
from pspsearch.triton.shared_memory import PixelRing


@pytest.fixture(scope="module")
def claim() -> Iterator[Claim]:
    """A name to put rings under."""
    with Claim() as claim:
        yield claim


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 20)), max_size=60))
def test_cells_are_never_lent_twice(steps: list[tuple[int, int]]) -> None:
    """Runs that are out at the same time do not overlap, and all cells are free again at the end."""
    with Claim() as claim, PixelRing(f"{claim.prefix}-pixels", 8, 2, 2) as ring:
        lent: list[tuple[int, int]] = []
        for count, choice in steps:
            first = ring.take(count)
            if first is None:
                assert lent, "an empty ring has room for five"
                ring.give_back(*lent.pop(choice % len(lent)))
                continue
            lent.append((first, count))
            cells = [cell for start, size in lent for cell in range(start, start + size)]
            assert len(cells) == len(set(cells))
            assert max(cells) < 8
        for run in lent:
            ring.give_back(*run)

        assert ring.take(8) == 0


def test_pixels_lie_where_triton_is_told(claim: Claim) -> None:
    """The n-th cell starts n cells into the region, row after row."""
    pixels = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
    with PixelRing(f"{claim.prefix}-written", 5, 3, 4) as ring:
        ring.write(3, pixels)

        content = (SHARED_MEMORY / ring.key).read_bytes()
        assert content[3 * ring.cell_bytes :] == pixels.tobytes()


def test_closed_ring_leaves_nothing(claim: Claim) -> None:
    """The region is gone when the context ends."""
    with PixelRing(f"{claim.prefix}-closed", 5, 3, 4) as ring:
        assert (SHARED_MEMORY / ring.key).exists()

    assert not (SHARED_MEMORY / ring.key).exists()


def test_ring_larger_than_the_memory_is_refused_at_once(claim: Claim) -> None:
    """A full /dev/shm is an OSError at the start, not a SIGBUS at the first write."""
    with pytest.raises(OSError, match=r"No space|Cannot allocate|too large"):
        PixelRing(f"{claim.prefix}-huge", 1 << 30, 1 << 10, 1 << 10)

    assert not (SHARED_MEMORY / f"{claim.prefix}-huge").exists()


def test_sweep_spares_the_living(claim: Claim) -> None:
    """Two servers on one host do not take each other's memory away."""
    region = SHARED_MEMORY / f"{claim.prefix}-region"
    region.touch()

    sweep()

    assert region.exists()
    assert claim.folder.exists()


def test_sweep_removes_what_a_killed_process_left() -> None:
    """After kill -9 the next start finds the region, the folder and the child of the dead and removes them."""
    script = (
        "import subprocess, sys, time; from pspsearch.triton.claim import Claim; claim = Claim();"
        "open(f'/dev/shm/{claim.prefix}-region', 'w').close();"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)', claim.prefix]);"
        "print(claim.prefix, child.pid, flush=True); time.sleep(600)"
    )
    owner = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    prefix, child = owner.stdout.readline().split()
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()

    sweep()

    owner.stdout.close()
    assert list(SHARED_MEMORY.glob(f"{prefix}*")) == []
    assert _is_gone(int(child))


def _is_gone(pid: int) -> bool:
    """Waits for a killed orphan, which may stay a zombie where nobody reaps it."""
    try:
        file = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    ended, _, _ = select.select([file], [], [], 10)
    os.close(file)
    return bool(ended)
