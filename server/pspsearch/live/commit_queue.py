"""Carries the commits of one generation to its index."""

import threading
from concurrent.futures import Future

from pspsearch.domain import Commit
from pspsearch.ports import Index

_FEW = 16
"""The most commits that the index may still have to catch up with while the writer waits."""


class CommitQueue:
    """Keeps commits until the index is open, and then passes them on."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._waiting: list[Commit] = []
        self._index: Index | None = None

    def put(self, commit: Commit) -> Future[None] | None:
        """Takes a commit as `Index.apply` does; called in the writer's thread, in commit order.

        Returns None while there is no index, because nothing can search it yet.
        """
        with self._turn:
            if self._index is not None:
                return self._index.apply(commit)
            self._waiting.append(commit)
            return None

    def connect(self, index: Index) -> None:
        """Connects an index whose opening began after this queue was created. Call it once, from any thread."""
        while len(self._waiting) > _FEW:
            with self._turn:
                commits, self._waiting = self._waiting, []
            index.catch_up(commits)
        with self._turn:
            index.catch_up(self._waiting)
            self._index = index
