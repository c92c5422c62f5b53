"""The commits of one generation on their way to its index."""

import threading
from concurrent.futures import Future

from pspsearch.domain import Commit
from pspsearch.ports import Index

_FEW = 16
"""Commits that are caught up with while the writer waits."""


class CommitQueue:
    """Keeps commits until the index is there, and hands them on from then on."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._waiting: list[Commit] = []
        self._index: Index | None = None

    def put(self, commit: Commit) -> Future[None] | None:
        """In the writer's thread, in commit order; as `Index.apply`. Nothing searches an index that is not there."""
        with self._turn:
            if self._index is not None:
                return self._index.apply(commit)
            self._waiting.append(commit)
            return None

    def connect(self, index: Index) -> None:
        """To an index whose opening began when this was there already; in any thread, once."""
        while len(self._waiting) > _FEW:
            with self._turn:
                commits, self._waiting = self._waiting, []
            index.catch_up(commits)
        with self._turn:
            index.catch_up(self._waiting)
            self._index = index
