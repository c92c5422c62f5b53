"""Parsed filters that are asked for again."""

import threading
from collections import OrderedDict

from pspsearch.filters.expression import Expression

_CHARACTER_BYTES, _TREE_BYTES = 64, 1000
"""What a tree and its text take at most, for each character, and beside that."""


class Cache:
    """The trees of texts that were asked for last, as many as there is room for; for any thread."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._trees: OrderedDict[str, Expression] = OrderedDict()
        self._lock = threading.Lock()
        self.size_bytes = 0
        """About; never more than the room."""

    def find(self, text: str) -> Expression | None:
        """None where it is not kept."""
        with self._lock:
            tree = self._trees.get(text)
            if tree is not None:
                self._trees.move_to_end(text)
            return tree

    def keep(self, text: str, tree: Expression) -> None:
        """In the place of those that nobody has asked for the longest."""
        with self._lock:
            if text not in self._trees:
                self._trees[text] = tree
                self.size_bytes += _size_bytes(text)
            while self.size_bytes > self._max_bytes:
                oldest, _ = self._trees.popitem(last=False)
                self.size_bytes -= _size_bytes(oldest)


def _size_bytes(text: str) -> int:
    return _TREE_BYTES + _CHARACTER_BYTES * len(text)
