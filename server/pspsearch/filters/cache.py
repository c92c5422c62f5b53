"""Keeps parsed filters for the next time they are asked for."""

import threading
from collections import OrderedDict

from pspsearch.filters.expression import Expression

_CHARACTER_BYTES, _TREE_BYTES = 64, 1000
"""The most that a text and its tree take: per character, and once for each tree."""


class Cache:
    """The trees of the texts that were asked for last, as many as there is room for. Any thread may use it."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._trees: OrderedDict[str, Expression] = OrderedDict()
        self._lock = threading.Lock()
        self.size_bytes = 0
        """Approximate, and never more than the room."""

    def find(self, text: str) -> Expression | None:
        """Returns the tree; None if it is not kept."""
        with self._lock:
            tree = self._trees.get(text)
            if tree is not None:
                self._trees.move_to_end(text)
            return tree

    def keep(self, text: str, tree: Expression) -> None:
        """Keeps the tree, and makes room by dropping those that were not asked for the longest."""
        with self._lock:
            if text not in self._trees:
                self._trees[text] = tree
                self.size_bytes += _size_bytes(text)
            while self.size_bytes > self._max_bytes:
                oldest, _ = self._trees.popitem(last=False)
                self.size_bytes -= _size_bytes(oldest)


def _size_bytes(text: str) -> int:
    return _TREE_BYTES + _CHARACTER_BYTES * len(text)
