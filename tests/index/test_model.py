"""Random operations on an index, with merges, compactions, restarts and damage, compared with brute force."""

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from pspsearch.domain import Commit, IndexKind
from pspsearch.filters import Filter
from pspsearch.index.index import SegmentedIndex
from tests.fakes.index import Gallery, holds, join, match_all
from tests.indexes import DAMAGES, PARTS, Recalls, open_index, snapshot_files

SCORE_TOLERANCE = 1e-5
"""Both sum 16 float32 products of the same fp16 numbers, in another order."""

IDS = st.integers(0, 899).map("item-{}".format)
GROUPS = st.integers(0, 3)
FILTERS = st.sampled_from([None, None, "group = 1", "group > 0", "NOT group = 2", "rare = true", "group = 9"])
COUNTS = st.sampled_from([1, 3, 10, 50, 2000])


class IndexMachine(RuleBasedStateMachine):
    """One index, whose base is exact or not. Nothing happens in its background."""

    kind: IndexKind
    recalls: Recalls

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.gallery = Gallery()
        self.index = self.open()

    def open(self) -> SegmentedIndex:
        """Opens the index as a new process does."""
        return self.runner.run(open_index(Path(self.folder.name), self.gallery.source, self.kind))

    def teardown(self) -> None:
        """Closes the index and removes its files."""
        self.runner.run(self.index.close())
        self.runner.close()
        self.folder.cleanup()

    def commit(self, commits: list[Commit]) -> None:
        """Applies all changes as one transaction."""
        self.index.apply(join(commits))

    @initialize(rows=st.sampled_from([800, 30, 0]))
    def begin(self, rows: int) -> None:
        """Begins with enough rows for lists, or with few or none."""
        self.commit([self.gallery.put(f"item-{number}", group=number % 4) for number in range(rows)])
        self.merge()

    @rule(ids=st.lists(IDS, max_size=30), group=GROUPS)
    def put(self, ids: list[str], group: int) -> None:
        """Puts in new items, and other descriptors for existing ones."""
        self.commit([self.gallery.put(id_, group=group) for id_ in ids])

    @rule(ids=st.lists(IDS, max_size=30))
    def label(self, ids: list[str]) -> None:
        """Changes attributes but not descriptors."""
        self.commit([self.gallery.label(id_, rare=True) for id_ in ids if id_ in self.gallery.rows])

    @rule(share=st.sampled_from([0.01, 0.1, 1.0]), seed=st.integers(0, 99))
    def drop(self, share: float, seed: int) -> None:
        """Deletes a few items, many, or all."""
        chance = np.random.default_rng(seed)
        self.commit([self.gallery.drop(id_) for id_ in list(self.gallery.rows) if chance.random() < share])

    @rule()
    def merge(self) -> None:
        """Brings all rows into the base."""
        self.index._segments.merge(lambda _: None)

        assert self.index.state.fresh == 0

    @rule()
    def compact(self) -> None:
        """Drops all dead rows."""
        segments = self.index._segments
        segments.compact(self.index._upkeep._snapshots.new_matrix(), lambda _: None)

        assert segments.view.rows == len(self.gallery.rows)

    @rule()
    def save(self) -> None:
        """Saves a snapshot of this moment."""
        self.index._upkeep._snapshots.save(self.index._segments.view)

    @rule(part=st.sampled_from(["", *PARTS]), damage=st.sampled_from(DAMAGES), where=st.floats(0, 1, exclude_max=True))
    def restart(self, part: str, damage: Callable[[Path, int], None], where: float) -> None:
        """Reopens the index from the snapshot that it left, whole or with one file damaged."""
        self.runner.run(self.index.close())
        if part:
            path, size_bytes = snapshot_files(Path(self.folder.name))[part]
            damage(path, int(where * size_bytes))
        self.index = self.open()

    @rule(count=COUNTS, text=FILTERS)
    def search(self, count: int, text: str | None) -> None:
        """Checks that the rows exist, with their scores, best first.

        They are all the best from an exact base, and nearly all from another.
        """
        keep = Filter.parse(text) if text else None
        queries = self.gallery.queries(5)
        answers = self.runner.run(self.index.search(queries, count, keep))
        rows = self.gallery.by_sequence()
        for found, query, truth in zip(answers, queries, self.gallery.nearest(queries, count, keep), strict=True):
            there = [rows[sequence] for sequence in found.sequences.tolist()]
            assert [row.id for row in there] == found.ids
            assert len(set(found.ids)) == len(found.ids) == len(truth.ids)
            assert all(holds(keep, row) for row in there)
            assert (np.diff(found.scores) <= 0).all()
            cosines = np.array([row.descriptor.astype(np.float64) @ query for row in there])
            assert np.allclose(found.scores, cosines, rtol=0, atol=SCORE_TOLERANCE)
            if self.index.state.plan == "exact":
                assert np.allclose(found.scores, truth.scores, rtol=0, atol=SCORE_TOLERANCE)
            else:
                self.recalls.add(len(set(found.ids) & set(truth.ids)), len(truth.ids))

    @rule(text=FILTERS)
    def match(self, text: str | None) -> None:
        """Checks that matches are exact and by key on every kind of base, and that the count agrees."""
        where = Filter.parse(text or "*")
        matched = self.runner.run(match_all(self.index, where))
        rows = sorted((row for row in self.gallery.rows.values() if holds(where, row)), key=lambda row: row.key)

        assert matched.keys.tolist() == [row.key for row in rows]
        assert matched.sequences.tolist() == [row.sequence for row in rows]
        assert self.runner.run(self.index.count(where)) == len(rows)

    @invariant()
    def counts_agree(self) -> None:
        """The count is that of the rows that can be found."""
        assert self.index.state.rows == len(self.gallery.rows)

    @invariant()
    def search_agrees(self) -> None:
        """It does at every moment, without a filter."""
        self.search(10, None)


@pytest.mark.parametrize("kind", [IndexKind.EXACT, IndexKind.IVF, IndexKind.HNSW])
def test_index_agrees_with_brute_force(kind: IndexKind) -> None:
    """It agrees whatever happens in whatever order; recall is that of all searches on an approximate base."""

    class OfKind(IndexMachine):
        pass

    OfKind.kind, OfKind.recalls = kind, Recalls()

    run_state_machine_as_test(OfKind, settings=settings(max_examples=20, stateful_step_count=25, deadline=None))

    OfKind.recalls.check(kind)
