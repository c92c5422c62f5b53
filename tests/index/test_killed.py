"""A process killed while it writes a snapshot leaves a sound one: the previous or the new one."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

from pspsearch.domain import Commit, IndexKind, Sequences
from pspsearch.index.segments import Segments
from pspsearch.index.snapshots import Snapshots
from pspsearch.index.table.table import Table
from pspsearch.index.view import View
from tests.fakes.index import DIMENSION, GENERATION, Gallery, join
from tests.indexes import builder

OLD, NEW = 50, 90
"""The rows of the two snapshots."""


def test_killed_at_any_step_the_snapshot_before_stays(tmp_path: Path) -> None:
    """It is killed at every file that is opened, renamed or removed.

    A compaction came before, so the matrix changes, too.
    """
    command = [sys.executable, "-m", "tests.index.test_killed", str(tmp_path)]
    child = subprocess.run(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True, check=True)

    rows = json.loads(child.stdout)

    assert len(rows) > 20
    assert rows[0] == OLD
    assert rows[-1] == NEW
    assert rows == sorted(rows)
    assert set(rows) == {OLD, NEW}


def rows_found(folder: Path) -> list[int]:
    """Returns how many rows the snapshot found has, after a kill at the first step, at the second, and so on.

    The last number is that without a kill.
    """
    gallery = Gallery()
    for number in range(OLD):
        gallery.put(f"old-{number}")
    sequences = gallery.source.sequences()
    kept = snapshots(folder / "kept")
    table = Table.empty(kept.new_matrix(), DIMENSION)
    empty = View(table, np.zeros(0, np.bool_), 0, builder(IndexKind.EXACT).build_empty(), 0)
    kept.save(empty.after(list(gallery.source.after(0))))
    later = join(gallery.put(f"new-{number}") for number in range(NEW - OLD))
    rows: list[int] = []
    for step in itertools.count(1):
        tried = Path(shutil.copytree(folder / "kept", folder / f"tried-{step}"))
        killed = save_in_child(tried, sequences, later, step)
        found = snapshots(tried).load(sequences, sys.maxsize)
        assert found is not None
        rows.append(found.rows)
        if not killed:
            break
    return rows


def save_in_child(folder: Path, sequences: Sequences, later: Commit, step: int) -> bool:
    """Returns whether a process that compacts and saves the index was killed at that step of the saving."""
    child = os.fork()
    if child == 0:
        view = snapshots(folder).load(sequences, sys.maxsize)
        assert view is not None
        segments = Segments(view, builder(IndexKind.EXACT))
        segments.apply(later)
        segments.compact(snapshots(folder).new_matrix(), lambda _: None)
        die_at(step)
        snapshots(folder).save(segments.view)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def die_at(step: int) -> None:
    """Kills this process after it has touched the file system this many times from now on."""
    steps = itertools.count(1)

    def hear(event: str, _: object) -> None:
        if event.startswith(("open", "os.", "shutil.")) and next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hear)


def snapshots(folder: Path) -> Snapshots:
    """Opens the folder as a new process does."""
    return Snapshots(folder, GENERATION, builder(IndexKind.EXACT))


if __name__ == "__main__":
    print(json.dumps(rows_found(Path(sys.argv[1]))))
