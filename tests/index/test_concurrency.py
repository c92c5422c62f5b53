"""Searches while commits, merges and compactions go on."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pspsearch.domain import Commit, IndexKind
from pspsearch.filters import Filter
from pspsearch.index.index import SegmentedIndex
from pspsearch.index.upkeep import Bounds
from tests.fakes.index import DIMENSION, Gallery, join, stored
from tests.indexes import open_index

LETTERS = "abcde"
NOISE = 15
"""How many other items each commit puts in, and the next takes out."""

BOUNDS = Bounds(fresh_bytes=400 * 2 * DIMENSION, dead_rows=900, snapshot_pause_s=0.0)
"""A merge is due every twenty commits, a compaction every fifty."""


class Writer:
    """Replaces five items in every commit by their next version, until a merge and a compaction have happened."""

    def __init__(self, gallery: Gallery, index: SegmentedIndex) -> None:
        self.index = index
        self.target = stored(np.ones(16))
        self.begun = 0
        """A search sees at most the version that has begun when it ends..."""
        self.applied = 0
        """...and at least the one that is applied when it begins."""
        self.done = False
        self.turns = threading.Semaphore(0)
        """Released once per commit.

        Without it the writer, which waits for no disk, would run far ahead of the searches.
        """
        self._gallery = gallery
        self._bases: set[tuple[Path, int]] = set()

    def write(self) -> None:
        """Makes one commit after another, in its own thread."""
        while not self.done:
            self.turns.acquire()
            self.begun += 1
            self.index.apply(join(self._changes(self.begun)))
            self.applied = self.begun
            view = self.index._segments.view
            self._bases.add((view.table.matrix.path, view.base.rows))
            compactions = len({path for path, _ in self._bases}) - 1
            merges = len(self._bases) - compactions - 1
            self.done |= compactions >= 1 and merges >= 1

    def _changes(self, version: int) -> Iterator[Commit]:
        for letter in LETTERS:
            if version > 1:
                yield self._gallery.drop(f"{letter}-{version - 1}")
            yield self._gallery.put(f"{letter}-{version}", self.target, letter=letter)
        for number in range(NOISE):
            if version > 1:
                yield self._gallery.drop(f"noise-{version - 1}-{number}")
            yield self._gallery.put(f"noise-{version}-{number}")


async def search(writer: Writer, keep: Filter | None) -> int:
    """Searches until all is written. Each answer must be one whole version that existed during the search."""
    searches = 0
    try:
        while not writer.done:
            applied = writer.applied
            (found,) = await writer.index.search(writer.target.astype(np.float32)[None], len(LETTERS), keep)
            begun = writer.begun
            if applied:
                version = int(found.ids[0].partition("-")[2])
                assert found.ids == [f"{letter}-{version}" for letter in LETTERS]
                assert applied <= version <= begun
                searches += 1
            writer.turns.release()
    finally:
        writer.done = True
        writer.turns.release()
    return searches


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (IndexKind.EXACT, None),
        (IndexKind.EXACT, "letter:*"),
        (IndexKind.IVF, "letter:*"),  # keeps so few rows that every base is exact
        (IndexKind.HNSW, "letter:*"),
    ],
)
async def test_answer_is_of_one_moment_between_its_begin_and_its_end(
    tmp_path: Path, kind: IndexKind, text: str | None
) -> None:
    """No commit is seen in part or late, and no merge, compaction or snapshot loses or doubles a row."""
    gallery = Gallery()
    for number in range(700):
        gallery.put(f"old-{number}")
    index = await open_index(tmp_path, gallery.source, kind, BOUNDS)
    writer = Writer(gallery, index)
    keep = Filter.parse(text) if text else None

    *searches, _ = await asyncio.gather(*(search(writer, keep) for _ in range(4)), asyncio.to_thread(writer.write))

    assert all(searches)
    assert sorted((await index.search(gallery.queries(1), 1_000_000))[0].ids) == sorted(gallery.rows)
    await index.close()

    index = await open_index(tmp_path, gallery.source, kind, BOUNDS)

    assert sorted((await index.search(gallery.queries(1), 1_000_000))[0].ids) == sorted(gallery.rows)
    await index.close()
