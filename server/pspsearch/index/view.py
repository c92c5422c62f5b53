"""One moment of an index."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pspsearch.domain import Descriptors, Found, Matched, Row, Sequences
from pspsearch.filters import Filter
from pspsearch.index.arrays import Mask, RowNumbers
from pspsearch.index.bases.base import Base
from pspsearch.index.scoring import Answers, ExactScan, ordered
from pspsearch.index.selection import Selection
from pspsearch.index.table.table import Table

LEAST_ASKED = 10
"""The fewest rows to ask a base for.

Its effort is tuned for that depth, and it scores a multiple of what it is asked for. For a single row it would score so
few that the nearest is often missed.
"""


@dataclass(frozen=True, eq=False)
class View:
    """The first rows of a table, which of them are alive, and the base that finds them. Never changes."""

    table: Table
    alive: Mask
    """One entry per row."""
    living: int
    """How many rows are alive."""
    base: Base
    """Covers the first rows, or all."""
    sequence: int
    """The highest sequence of all rows that there ever were."""

    @property
    def rows(self) -> int:
        """The number of rows, including dead ones."""
        return len(self.alive)

    @property
    def fresh(self) -> int:
        """The number of rows that the base does not cover."""
        return self.rows - self.base.rows

    @cached_property
    def tombstones(self) -> int:
        """The number of the base's rows that are dead."""
        return self.base.rows - int(np.count_nonzero(self.alive[: self.base.rows]))

    @cached_property
    def _fresh_scan(self) -> ExactScan:
        return ExactScan(self.table.matrix.first(self.rows)[self.base.rows :])

    def after(self, added: Sequence[Row], removed: Sequence[int] = ()) -> "View":
        """Returns the next view, with `added` rows in the table and the rows of the `removed` sequences dead.

        Must be called on the table's latest view, by one thread at a time. Raises OSError, with nothing changed, if the
        disk is full.
        """
        assert not added or added[0].sequence > self.sequence, "a commit comes out of turn"
        self.table.append(added)
        rows = self.rows + len(added)
        dead = self.table.find(np.array(removed, np.int64), rows)
        alive = np.concatenate([self.alive, np.ones(len(added), np.bool_)])
        assert (dead >= 0).all(), "a commit removes a row that never was"
        assert alive[dead].all(), "a commit removes a row that is dead already"
        alive[dead] = False
        living = self.living + len(added) - len(dead)
        sequence = added[-1].sequence if added else self.sequence
        return replace(self, alive=alive, living=living, sequence=sequence)

    def is_quick(self, where: Filter) -> bool:
        """Whether `mask` takes no longer than a search may wait; this check itself is quick."""
        return self.table.columns.is_quick(where, self.rows)

    def mask(self, where: Filter | None) -> Mask | None:
        """Returns the living rows that a filter matches, or None if nothing needs masking.

        Raises InvalidRequest if the filter would be too much work.
        """
        if where is not None:
            return self._holds(where)
        return None if self.living == self.rows else self.alive

    def search(self, queries: Descriptors, count: int, mask: Mask | None) -> list[Found]:
        """Returns for each query the `count` best rows of a mask that this view made.

        One thread at a time may call it.
        """
        scores, rows = self._nearest(queries, min(count, self.rows), mask)
        ends = np.count_nonzero(rows >= 0, axis=1)
        return [self._found(scores[number, :end], rows[number, :end]) for number, end in enumerate(ends)]

    def _nearest(self, queries: Descriptors, count: int, mask: Mask | None) -> Answers:
        """Searches the base and the fresh rows. Each answers with everything if it has fewer than `count` rows."""
        covered = self.base.rows
        asked = max(count, LEAST_ASKED)
        scores, rows = self.base.search(queries, asked, None if mask is None else mask[:covered])
        if self.fresh:
            selection = Selection.of(None if mask is None else mask[covered:], self.fresh)
            fresh_scores, fresh_rows = self._fresh_scan.search(queries, count, selection)
            fresh_rows[fresh_rows >= 0] += covered
            scores, rows = ordered(np.hstack([scores, fresh_scores]), np.hstack([rows, fresh_rows]))
        return scores[:, :count], rows[:, :count]

    def _found(self, scores: NDArray[np.float32], rows: RowNumbers) -> Found:
        return Found(self.table.sequences(self.rows)[rows], self.table.ids(rows), scores.copy())

    def count(self, where: Filter) -> int:
        """Counts the living rows that a filter matches. Any thread may call this and the methods below."""
        return int(np.count_nonzero(self._holds(where)))

    def match(self, where: Filter, after_key: int) -> Matched:
        """Returns the living rows that a filter matches, of items with keys above `after_key`."""
        matched = self._by_key(np.flatnonzero(self._holds(where)))
        start = np.searchsorted(matched.keys, after_key, side="right")
        return Matched(matched.keys[start:], matched.sequences[start:])

    def sample(self, count: int) -> Matched:
        """Returns `count` living rows, drawn evenly and the same at every call, or all if there are fewer."""
        rows = np.flatnonzero(self.alive)
        return self._by_key(np.random.default_rng(0).choice(rows, min(count, len(rows)), replace=False))

    def contains(self, sequences: Sequences) -> Mask:
        """Returns for each sequence whether there is a living row with it."""
        rows = self.table.find(sequences, self.rows)
        there = rows >= 0
        there[there] = self.alive[rows[there]]
        return there

    def _holds(self, where: Filter) -> Mask:
        return self.alive & self.table.columns.holds(where, self.rows)

    def _by_key(self, rows: RowNumbers) -> Matched:
        keys = self.table.keys(self.rows)[rows]
        order = np.argsort(keys)
        return Matched(keys[order], self.table.sequences(self.rows)[rows[order]])
