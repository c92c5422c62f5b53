"""The ring of pixel cells, and the names that it and Triton have in /dev/shm."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pspsearch.triton import owned_name as claims
from pspsearch.triton.owned_name import SHARED_MEMORY, OwnedName, sweep
from pspsearch.triton.shared_memory import PixelRing


@pytest.fixture(scope="module")
def owned_name() -> Iterator[OwnedName]:
    """A name for rings."""
    with OwnedName() as owned_name:
        yield owned_name


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder instead of /dev/shm, which other servers on this machine do not see."""
    folder = tmp_path / "shm"
    folder.mkdir()
    monkeypatch.setattr(claims, "SHARED_MEMORY", folder)
    return folder


Start = Callable[[str, str], "subprocess.Popen[str]"]
"""Starts a process of that program with that argument, which waits for a line."""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """The programs are copies of a shell under other names."""
    with contextlib.ExitStack() as stack:

        def start(program: str, argument: str) -> "subprocess.Popen[str]":
            path = tmp_path / program
            if not path.exists():
                shutil.copy("/bin/sh", path)
            command = [str(path), "-c", "echo; read line", program, argument]
            process = stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            stack.callback(process.kill)
            assert process.stdout is not None
            process.stdout.readline()  # only now are its arguments visible
            return process

        yield start


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 20)), max_size=60))
def test_cells_are_never_lent_twice(steps: list[tuple[int, int]]) -> None:
    """Runs that are lent at the same time do not overlap, and all cells are free again at the end."""
    with OwnedName() as owned_name, PixelRing(f"{owned_name.prefix}-pixels", 8, 2, 2) as ring:
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


def test_pixels_lie_where_triton_is_told(owned_name: OwnedName) -> None:
    """The n-th cell starts n cells into the region, with one row after the other."""
    pixels = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
    with PixelRing(f"{owned_name.prefix}-written", 5, 3, 4) as ring:
        ring.write(3, pixels)

        content = (SHARED_MEMORY / ring.key).read_bytes()
        assert content[3 * ring.cell_bytes :] == pixels.tobytes()


def test_closed_ring_leaves_nothing(owned_name: OwnedName) -> None:
    """The region is gone when the context ends."""
    with PixelRing(f"{owned_name.prefix}-closed", 5, 3, 4) as ring:
        assert (SHARED_MEMORY / ring.key).exists()

    assert not (SHARED_MEMORY / ring.key).exists()


def test_ring_larger_than_the_memory_is_refused_at_once(owned_name: OwnedName) -> None:
    """A full /dev/shm is an OSError at creation, not a SIGBUS at the first write."""
    with pytest.raises(OSError, match=r"No space|Cannot allocate|too large"):
        PixelRing(f"{owned_name.prefix}-huge", 1 << 30, 1 << 10, 1 << 10)

    assert not (SHARED_MEMORY / f"{owned_name.prefix}-huge").exists()


def test_sweep_spares_the_living(owned_name: OwnedName) -> None:
    """Two servers on one host do not remove each other's memory."""
    region = SHARED_MEMORY / f"{owned_name.prefix}-region"
    region.touch()

    sweep()

    assert region.exists()
    assert owned_name.folder.exists()


def test_sweep_removes_what_a_killed_process_left(start: Start) -> None:
    """After kill -9 the next start finds the region, the folder and the processes of the dead one and removes them."""
    script = (
        "import sys; from pspsearch.triton.owned_name import OwnedName; owned_name = OwnedName();"
        "open(f'/dev/shm/{owned_name.prefix}-region', 'w').close();"
        "print(owned_name.prefix, owned_name.folder, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        prefix, folder = owner.stdout.readline().split()
        triton = start("tritonserver", f"--backend-config=python,shm-region-prefix-name={prefix}-triton-")
        python_process = start("triton_python_backend_stub", f"{prefix}-triton-0123")
        owner.kill()

    sweep()

    assert list(SHARED_MEMORY.glob(f"{prefix}*")) == []
    assert not Path(folder).exists()
    assert _was_killed(triton)
    assert _was_killed(python_process)


@pytest.mark.parametrize(
    ("program", "argument"),
    [
        ("grep", "--backend-config=python,shm-region-prefix-name=pspsearch-ab12cd34-triton-"),
        ("tritonserver", "/var/log/pspsearch-ab12cd34"),
        ("tritonserver", "--backend-config=python,shm-region-prefix-name=pspsearch-ab12cd34-triton-2"),
        ("triton_python_backend_stub", "of-pspsearch-ab12cd34-triton-0123"),
    ],
)
def test_sweep_kills_nobody_who_only_names_the_dead(shared: Path, start: Start, program: str, argument: str) -> None:
    """An operator may search for the name or look at its log; only Triton's programs run under it."""
    lock = shared / "pspsearch-ab12cd34-lock"
    lock.touch(0o600)
    process = start(program, argument)

    sweep()

    assert not lock.exists()
    assert _ends_by_itself(process)


@pytest.mark.parametrize("name", ["pspsearch--lock", "pspsearch-a-lock", "pspsearch-AB12CD34-lock", "pspsearch-*-lock"])
def test_sweep_looks_at_no_other_names(shared: Path, start: Start, name: str) -> None:
    """A shorter name is a prefix of every other: what lives under a whole name stays."""
    region = shared / "pspsearch-a2345678-region"
    process = start("tritonserver", "--backend-config=python,shm-region-prefix-name=pspsearch-a2345678-triton-")
    for path in (region, shared / name):
        path.touch(0o600)

    sweep()

    assert region.exists()
    assert (shared / name).exists()
    assert _ends_by_itself(process)


def link(lock: Path) -> None:
    """Makes the lock a symbolic link to a file of ours."""
    lock.symlink_to(lock.with_name("elsewhere"))


def open_to_all(lock: Path) -> None:
    """Makes a lock that others may write to."""
    lock.touch()
    lock.chmod(0o666)


def name_twice(lock: Path) -> None:
    """Makes the lock a hard link to another file of ours."""
    lock.hardlink_to(lock.with_name("elsewhere"))


def give_away(lock: Path) -> None:
    """Makes a lock of another user, which root could lock nevertheless."""
    lock.touch(0o600)
    os.chown(lock, 65534, 65534)


@pytest.mark.parametrize(
    "make",
    [
        link,
        open_to_all,
        name_twice,
        Path.mkdir,
        pytest.param(
            give_away,
            marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root can give away; that it is left is unproven"),
        ),
    ],
)
def test_sweep_leaves_alone_what_no_claim_made(shared: Path, make: Callable[[Path], None]) -> None:
    """Anyone can put such things there."""
    lock, region = shared / "pspsearch-0badcafe-lock", shared / "pspsearch-0badcafe-region"
    for path in (region, shared / "elsewhere"):
        path.touch(0o600)
    make(lock)

    sweep()

    assert region.exists()
    assert os.path.lexists(lock)


def test_what_cannot_be_swept_stays(shared: Path) -> None:
    """Another user's things under the name of a dead owner stay, and stop no one from starting."""
    lock, folder = shared / "pspsearch-0badcafe-lock", shared / "pspsearch-0badcafe-somebody"
    lock.touch(0o600)
    folder.mkdir()

    sweep()

    assert folder.exists()
    assert not lock.exists()


def _was_killed(process: "subprocess.Popen[str]") -> bool:
    """Whether the process was killed and did not end by itself."""
    return process.wait(10) == -signal.SIGKILL


def _ends_by_itself(process: "subprocess.Popen[str]") -> bool:
    """Whether the process ends by itself when asked to, because it was not killed."""
    process.communicate("go on\n")
    return process.returncode == 0
