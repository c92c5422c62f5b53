"""Publishes the views of one index, as commits, merges and compactions change its segments."""

import threading
from collections import deque
from dataclasses import replace
from pathlib import Path

import numpy as np

from pspsearch.domain import Commit, Descriptors, Sequences
from pspsearch.errors import NotFound
from pspsearch.index.bases.builder import BaseBuilder
from pspsearch.index.candidates.finder import Advance, part
from pspsearch.index.table.table import Table
from pspsearch.index.view import View

FEW_COMMITS = 16
"""How many commits may be left to catch up with while the next one waits."""

ROUNDS = 8
"""How many rounds of catching up there are, each for the commits of the round before.

After them a fast writer waits.
"""


class Segments:
    """Publishes one view after another in `view`, which any thread may read at any time.

    Commits come from one thread, merges and compactions from another. A commit never waits for more than a moment.
    """

    def __init__(self, view: View, builder: BaseBuilder) -> None:
        self.view = view
        self.delayed: deque[Commit] = deque()
        """Commits that have not been taken in, or are being taken in now."""
        self.is_behind = False
        """Whether the first of them was tried and failed."""
        self.retired: Table | None = None
        """The table that a compaction replaced; it still has the rows that are gone."""
        self._builder = builder
        self._turn = threading.Lock()
        self._missed: deque[Commit] | None = None
        """Commits that a compaction under way has not seen."""

    def apply(self, commit: Commit) -> None:
        """Publishes the view after a commit. Raises OSError, and keeps the commit for later, if the disk is full."""
        self.delayed.append(commit)
        self.take_delayed()

    def delayed_sequences(self) -> list[int]:
        """Returns the sequences of rows that will be taken in when there is room."""
        with self._turn:
            return [row.sequence for commit in self.delayed for row in commit.added]

    def take_delayed(self) -> None:
        """Publishes the view after the last commit. Raises OSError if the disk is still full."""
        with self._turn:
            try:
                while self.delayed:
                    commit = self.delayed[0]
                    self.view = self.view.after(commit.added, commit.removed)
                    if self._missed is not None:
                        self._missed.append(commit)
                    self.delayed.popleft()
            except OSError:
                self.is_behind = True
                raise
            self.is_behind = False

    def merge(self, advance: Advance) -> None:
        """Publishes a base that covers all rows present at the time of the call."""
        view = self.view
        matrix = view.table.matrix.first(view.rows)
        base = self._builder.extend(view.base, matrix, advance)
        with self._turn:
            self.view = replace(self.view, base=base)

    def compact(self, path: Path, advance: Advance) -> None:
        """Publishes a table without the rows that are dead at the time of the call, with its matrix in a new file.

        Rows that die meanwhile are tombstones of the new table. An error leaves everything as it was.
        """
        with self._turn:
            view, self._missed = self.view, deque()
        try:
            self._compact(view, path, self._missed, advance)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        finally:
            with self._turn:
                self._missed = None

    def _compact(self, view: View, path: Path, missed: deque[Commit], advance: Advance) -> None:
        table = view.table.keep_rows(view.alive, path, part(advance, 0.0, 0.2))
        alive = np.ones(view.living, np.bool_)
        successor = View(table, alive, view.living, self._builder.build_empty(), view.sequence)

        def advance_and_catch_up(share: float) -> None:
            nonlocal successor
            successor = _catch_up(successor, missed)
            advance(0.2 + 0.8 * share)

        base = self._builder.build(table.matrix.first(view.living), advance_and_catch_up)
        for _ in range(ROUNDS):
            if len(missed) > FEW_COMMITS:
                successor = _catch_up(successor, missed)
        with self._turn:
            successor = _catch_up(successor, missed)
            self.retired, self.view = self.view.table, replace(successor, base=base)

    def forget(self) -> None:
        """Lets go of the rows that the last compaction dropped."""
        self.retired = None

    def descriptors(self, sequences: Sequences) -> Descriptors:
        """Returns the descriptors of rows that were in a view.

        Raises NotFound if that is too long ago. Any thread may call it.
        """
        for table in (self.view.table, self.retired):
            found = None if table is None else table.descriptors(sequences)
            if found is not None:
                return found
        raise NotFound("a row that was found has been deleted, and its descriptor is no longer kept")


def _catch_up(view: View, missed: deque[Commit]) -> View:
    """Returns the view after all missed commits, applied as one commit, which is quicker than one by one."""
    commits = [missed.popleft() for _ in range(len(missed))]
    added = [row for commit in commits for row in commit.added]
    removed = [sequence for commit in commits for sequence in commit.removed]
    return view.after(added, removed) if commits else view
