"""The Index port over immutable segments."""

import asyncio
import itertools
import logging
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from pspsearch.domain import (
    CollectionSettings,
    Commit,
    Descriptors,
    Found,
    Generation,
    IndexState,
    Matched,
    Row,
    Sequences,
)
from pspsearch.errors import IndexBehind, IndexFailed
from pspsearch.filters import Filter
from pspsearch.index.arrays import Mask
from pspsearch.index.bases.builder import BaseBuilder
from pspsearch.index.memory import IndexMemory
from pspsearch.index.probes import Probes
from pspsearch.index.searches import Searches
from pspsearch.index.segments import Segments
from pspsearch.index.snapshots import Snapshots
from pspsearch.index.table.table import Table
from pspsearch.index.upkeep import USUAL_BOUNDS, Bounds, Upkeep
from pspsearch.index.view import View
from pspsearch.ports import RowSource

log = logging.getLogger(__name__)

READ_ROWS = 1024
"""How many rows are read from the catalog at a time."""


class SegmentedIndex:
    """An Index of three segments: an immutable base, newer rows, and tombstones. See the port."""

    def __init__(self, segments: Segments, snapshots: Snapshots, bounds: Bounds) -> None:
        """Starts the threads. Must be called in the running event loop."""
        self._segments = segments
        self._probes = Probes()
        self._upkeep = upkeep = Upkeep(segments, snapshots, bounds, self._probes)
        self._searches = Searches(lambda: segments.view, self._probes)
        upkeep.start()

    @classmethod
    async def open(
        cls,
        folder: Path,
        generation: Generation,
        settings: CollectionSettings,
        source: RowSource,
        *,
        memory: IndexMemory,
        bounds: Bounds = USUAL_BOUNDS,
    ) -> Self:
        """Opens the index with all rows of the source, most of them from a snapshot. Later commits are for `catch_up`.

        The folder belongs to this index alone. If no base is stored, one is built later, and every row is scored until
        then. Raises IndexFailed if the folder cannot be used, and whatever the source raises.
        """
        builder = BaseBuilder(generation.dimension, settings.index_kind, settings.target_recall, memory)
        try:
            snapshots = await asyncio.to_thread(Snapshots, folder, generation, builder)
            view = await asyncio.to_thread(_load, snapshots, builder, source)
        except OSError as error:
            raise IndexFailed(f"the index in {folder} cannot be opened: {error}") from error
        return cls(Segments(view, builder), snapshots, bounds)

    def apply(self, commit: Commit) -> None:
        """See the port.

        If the disk is full, searches see the commit only when there is room again; that is logged.
        """
        try:
            self._segments.apply(commit)
        except OSError as error:
            log.error("a commit is not yet in the index: %s", error)  # noqa: TRY400 - a sentence
        self._upkeep.notice()

    def catch_up(self, commits: Sequence[Commit]) -> None:
        """See the port.

        Applies the rest as one commit, so it takes about as long as one commit with that many rows.
        """
        delayed = self._segments.delayed_sequences()  # before the view, which may have them by then
        view = self._segments.view
        added = {row.sequence: row for commit in commits for row in commit.added if row.sequence > view.sequence}
        removed = np.array([sequence for commit in commits for sequence in commit.removed], np.int64)
        there = view.contains(removed) | np.isin(removed, delayed)
        for sequence in removed[~there].tolist():
            added.pop(sequence, None)  # it came and went meanwhile, or went before it was read
        for commit in commits[-1:]:
            gone = tuple(removed[there].tolist())
            self.apply(Commit(commit.collection, commit.generation, tuple(added.values()), gone))

    def check_current(self) -> None:
        """See the port."""
        if self._segments.is_behind:
            raise IndexBehind("what was written is stored, and not found by searches yet: the server's disk is full")

    async def search(self, queries: Descriptors, count: int, where: Filter | None = None) -> list[Found]:
        """See the port."""
        return await self._searches.search(queries, count, where)

    async def count(self, where: Filter | None = None) -> int:
        """See the port."""
        return await self._searches.count(where)

    async def match(self, where: Filter, page_size: int, after_key: int = 0) -> AsyncGenerator[Matched]:
        """See the port."""
        matched = await self._searches.match(where, after_key)
        for start in range(0, max(1, len(matched.keys)), page_size):
            page = slice(start, start + page_size)
            yield Matched(matched.keys[page], matched.sequences[page])

    async def sample(self, count: int) -> Matched:
        """See the port."""
        return await asyncio.to_thread(self._segments.view.sample, count)

    async def contains(self, sequences: Sequences) -> Mask:
        """See the port."""
        return self._segments.view.contains(sequences)

    async def descriptors(self, sequences: Iterable[int]) -> Descriptors:
        """See the port.

        The descriptor of a row that is gone stays available for about a minute, and then raises NotFound.
        """
        return await asyncio.to_thread(self._segments.descriptors, np.fromiter(sequences, np.int64))

    @property
    def state(self) -> IndexState:
        """See the port."""
        view = self._segments.view
        return IndexState(
            plan=view.base.plan,
            rows=view.living,
            sequence=view.sequence,
            measured_recall=view.base.measured_recall,
            size_bytes=view.table.size_bytes(view.rows) + view.base.size_bytes,
            fresh=view.fresh,
            tombstones=view.tombstones,
            background=self._upkeep.words,
            live_recall=self._probes.recall,
        )

    async def close(self) -> None:
        """See the port. No call may be under way."""
        await self._searches.close()
        await asyncio.to_thread(self._upkeep.close)


def _load(snapshots: Snapshots, builder: BaseBuilder, source: RowSource) -> View:
    view = snapshots.load(source.sequences(), source.last_change())
    if view is None:
        table = Table.empty(snapshots.new_matrix(), builder.dimension)
        view = View(table, np.zeros(0, np.bool_), 0, builder.build_empty(), 0)
    for rows in _batches(source.after(view.sequence)):
        view = view.after(rows)
    return view


def _batches(rows: Iterator[Row]) -> Iterator[tuple[Row, ...]]:
    while batch := tuple(itertools.islice(rows, READ_ROWS)):
        yield batch
