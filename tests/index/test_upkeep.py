"""When an index merges, compacts and saves, and what happens if that fails."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from pspsearch.domain import IndexKind
from pspsearch.errors import NotFound
from pspsearch.index.candidates.finder import Advance
from pspsearch.index.probes import Probes
from pspsearch.index.segments import Segments
from pspsearch.index.snapshots import Snapshots
from pspsearch.index.table.table import Table
from pspsearch.index.upkeep import FIRST_PAUSE_S, RETIRED_S, Bounds, Upkeep, _Chore
from pspsearch.index.view import View
from tests.fakes.index import ALL, DIMENSION, GENERATION, Gallery, join
from tests.indexes import builder

BOUNDS = Bounds(fresh_bytes=100 * 2 * DIMENSION, fresh_share=0.5, dead_rows=100, dead_share=0.25, snapshot_pause_s=60.0)


@dataclass
class Workshop:
    """An index whose upkeep works only when it is told to, and whose clock stands still."""

    segments: Segments
    snapshots: Snapshots
    gallery: Gallery
    now_s: float = 1000.0

    def __post_init__(self) -> None:
        self.upkeep = Upkeep(self.segments, self.snapshots, BOUNDS, Probes(), lambda: self.now_s)

    def put(self, count: int) -> None:
        """Puts in this many new items."""
        rows = len(self.gallery.rows)
        self.segments.apply(join(self.gallery.put(f"item-{rows + number}") for number in range(count)))

    def drop(self, count: int) -> None:
        """Deletes the oldest items."""
        self.segments.apply(join(self.gallery.drop(id_) for id_ in list(self.gallery.rows)[:count]))

    def facts(self) -> tuple[int, int, int]:
        """Returns the rows of the table and of the base, and how many are alive."""
        view = self.segments.view
        return view.rows, view.base.rows, view.living


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the index."""
    return tmp_path / "index"


@pytest.fixture
def workshop(folder: Path) -> Workshop:
    """A workshop with an empty index."""
    exact = builder(IndexKind.EXACT)
    snapshots = Snapshots(folder, GENERATION, exact)
    table = Table.empty(snapshots.new_matrix(), DIMENSION)
    view = View(table, np.zeros(0, np.bool_), 0, exact.build_empty(), 0)
    return Workshop(Segments(view, exact), snapshots, Gallery())


def test_base_is_built_when_enough_rows_are_fresh(workshop: Workshop) -> None:
    """It is not built before, and again only when the fresh rows are a large enough share of it."""
    seen: list[tuple[int, int, int]] = []
    for count in (100, 1, 50, 20, 30, 1):
        workshop.put(count)
        workshop.upkeep.work()
        seen.append(workshop.facts())

    assert seen == [
        (100, 0, 100),
        (101, 101, 101),
        (151, 101, 151),
        (171, 101, 171),
        (201, 101, 201),
        (202, 202, 202),
    ]


def test_dead_rows_go_when_they_are_many(workshop: Workshop) -> None:
    """They must be many both in number and as a share."""
    workshop.put(300)
    seen: list[tuple[int, int, int]] = []
    for count in (75, 25, 1):
        workshop.drop(count)
        workshop.upkeep.work()
        seen.append(workshop.facts())

    assert seen == [(300, 300, 225), (300, 300, 200), (199, 199, 199)]


def test_snapshot_is_made_of_a_new_base_but_not_too_often(workshop: Workshop, folder: Path) -> None:
    """Writing takes the disk from others."""
    saved: list[int] = []
    for pause_s in (0, 59, 1, 59, 1):
        workshop.now_s += pause_s
        workshop.put(1000)
        workshop.upkeep.work()
        saved.append(len(list(folder.glob("snapshot-*/manifest.json"))))
        shutil.rmtree(next(folder.glob("snapshot-*"), folder / "none"), ignore_errors=True)

    assert saved == [0, 0, 1, 0, 1]


def test_nothing_is_saved_where_nothing_changed(workshop: Workshop, folder: Path) -> None:
    """This holds however much time passes."""
    workshop.put(1000)
    workshop.now_s += 60
    workshop.upkeep.work()
    before = sorted(folder.iterdir())
    workshop.now_s += 6000
    workshop.drop(1)
    workshop.upkeep.work()

    assert sorted(folder.iterdir()) == before


def test_descriptors_of_rows_that_a_compaction_left_out_can_be_had_for_a_while(workshop: Workshop) -> None:
    """A search made just before may still ask for them."""
    workshop.put(300)
    row = next(iter(workshop.gallery.rows.values()))
    workshop.drop(200)
    workshop.upkeep.work()

    kept = workshop.segments.descriptors(np.array([row.sequence]))
    workshop.now_s += RETIRED_S
    workshop.upkeep.work()

    assert np.array_equal(kept[0], row.descriptor.astype(np.float32))
    with pytest.raises(NotFound):
        workshop.segments.descriptors(np.array([row.sequence]))


def test_failure_is_shown_and_tried_again_later(
    workshop: Workshop, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Searches do not notice it, the pauses grow, and a later success clears it."""
    workshop.put(1000)
    workshop.now_s += 60
    hidden = folder.rename(folder.with_name("gone"))
    shown: list[str] = []
    for pause_s in (0.0, FIRST_PAUSE_S / 2, FIRST_PAUSE_S / 2, FIRST_PAUSE_S, FIRST_PAUSE_S):
        workshop.now_s += pause_s
        workshop.upkeep.work()
        shown.append(workshop.upkeep.words)
    failures = len(caplog.records)
    hidden.rename(folder)
    workshop.now_s += 4 * FIRST_PAUSE_S
    workshop.upkeep.work()

    assert failures == 3
    assert all(words.startswith("saving failed, and is tried again: ") for words in shown)
    assert workshop.upkeep.words == ""
    assert workshop.snapshots.has(workshop.segments.view)
    assert workshop.facts() == (1000, 1000, 1000)


def test_failed_compaction_changes_nothing(workshop: Workshop, folder: Path) -> None:
    """Neither the rows nor the folder change, and merges go on meanwhile."""
    workshop.put(300)
    workshop.upkeep.work()
    before = sorted(folder.iterdir())
    workshop.drop(150)

    def fail(share: float) -> None:
        if share > 0.2:  # the new table is there, and its base is being built
            workshop.drop(1)
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        workshop.segments.compact(workshop.snapshots.new_matrix(), fail)

    assert sorted(folder.iterdir()) == before
    assert workshop.facts() == (300, 300, 149)
    workshop.upkeep.work()
    assert workshop.facts() == (149, 149, 149)


def test_what_is_built_when_the_index_closes_is_given_up(workshop: Workshop, folder: Path) -> None:
    """It ends at its next report of progress; the snapshot then has all rows, without the unfinished base."""
    workshop.put(300)

    def close_and_go_on(advance: Advance) -> None:
        workshop.upkeep._closing = True
        advance(0.5)
        workshop.segments.merge(advance)

    workshop.upkeep._try(_Chore("merging", lambda: True, close_and_go_on))
    workshop.upkeep.start()
    workshop.upkeep.close()

    assert workshop.facts() == (300, 0, 300)
    assert workshop.upkeep.words == ""
    assert len(list(folder.glob("snapshot-*/manifest.json"))) == 1


@pytest.mark.parametrize("compacting", [True, False])
def test_commits_that_come_while_something_is_built_are_not_lost(workshop: Workshop, *, compacting: bool) -> None:
    """They may come at every step: rows that are added, rows that die, and rows that do both."""
    workshop.put(300)
    workshop.drop(200)

    def disturb(_: float) -> None:
        workshop.put(40)
        workshop.drop(60)

    if compacting:
        workshop.segments.compact(workshop.snapshots.new_matrix(), disturb)
    else:
        workshop.segments.merge(disturb)

    view = workshop.segments.view
    assert view.match(ALL, 0).keys.tolist() == sorted(row.key for row in workshop.gallery.rows.values())
    assert view.living == len(workshop.gallery.rows)
    assert view.base.rows == (100 if compacting else 300)
    assert view.fresh > 0
