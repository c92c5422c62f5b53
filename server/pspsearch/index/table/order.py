"""Columns sorted by value, kept within a bound for those that are asked for again."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST_VALUES = 20_000
"""The fewest values for which an order is worth keeping, because a pass over fewer is quick."""
_TAIL = 8
"""An order is renewed when it lacks more than one in this many values."""
_LATELY = 1024
"""After this many questions, earlier ones count for half."""
_MIN_BYTES = 64 << 20
"""The least room for orders, even if the columns are small."""

_MAKER = ThreadPoolExecutor(1, "column-order")


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """The first values of a column, ascending, with the row of each. Never changes."""

    values: NDArray[Any]
    rows: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def size_bytes(self) -> int:
        """The size in memory."""
        return self.values.nbytes + self.rows.nbytes

    def up_to(self, highest: np.generic | None) -> int:
        """Counts the values up to and including `highest`; None is less than all."""
        return 0 if highest is None else int(np.searchsorted(self.values, highest, "right"))

    def equal(self, wanted: NDArray[Any]) -> list[NDArray[np.int32]]:
        """Returns the rows of each of these values."""
        starts = np.searchsorted(self.values, wanted, "left").tolist()
        ends = np.searchsorted(self.values, wanted, "right").tolist()
        return [self.rows[start:end] for start, end in zip(starts, ends, strict=True)]

    def extended(self, values: NDArray[Any], rows: NDArray[np.int32]) -> "Order":
        """Returns an order that adds the column's later values; `values` and `rows` are those of the whole column."""
        together = np.concatenate([self.values, values[len(self) :]])
        places = np.argsort(together, kind="stable")  # quick if most are already in order
        return Order(together[places], np.concatenate([self.rows, rows[len(self) :]])[places])


class Orders:
    """The orders of one index's columns. Any thread may ask; another thread makes them.

    They take at most half as many bytes as the columns. If there is no more room, a new order replaces others that were
    asked for less than half as often lately.
    """

    def __init__(
        self,
        columns_bytes: Callable[[], int],
        *,
        begin: Callable[[Callable[[], None]], object] = _MAKER.submit,
        least_values: int = LEAST_VALUES,
        least_room_bytes: int = _MIN_BYTES,
    ) -> None:
        """`begin` runs work in another thread. Columns with fewer than `least_values` values get no order."""
        self._columns_bytes = columns_bytes
        self._begin = begin
        self._least_values = least_values
        self._least_room_bytes = least_room_bytes
        self._lock = threading.Lock()
        self._kept: dict[object, Order] = {}
        self._asked: Counter[object] = Counter()
        self._making: dict[object, int] = {}
        """How many bytes each will take."""
        self._asks = 0

    @property
    def size_bytes(self) -> int:
        """The size in memory."""
        with self._lock:
            return sum(order.size_bytes for order in self._kept.values())

    def find(self, column: object, values: NDArray[Any], rows: NDArray[np.int32]) -> Order | None:
        """Returns an order of the column's first values, or None if there is none yet.

        Begins to make one when the column is asked for the second time, or has grown.
        """
        if len(values) < self._least_values:
            return None
        with self._lock:
            order = self._kept.get(column)
            known = len(order) if order is not None else 0
            is_due = self._count(column) > 1 and known + len(values) // _TAIL < len(values)
            size_bytes = values.nbytes + rows.nbytes
            if not is_due or column in self._making or not self._make_room(column, size_bytes):
                return order
            self._making[column] = size_bytes
        self._begin(lambda: self._make(column, order, values, rows))
        return order

    def _count(self, column: object) -> int:
        """Counts this question, and returns how often the column was asked for lately."""
        self._asks += 1
        if self._asks % _LATELY == 0:
            self._asked = Counter({one: count // 2 for one, count in self._asked.items() if count > 1})
        self._asked[column] += 1
        return self._asked[column]

    def _make_room(self, column: object, size_bytes: int) -> bool:
        """Makes room for an order by dropping others if allowed. Returns whether there is room."""
        taken = sum(self._making.values())
        others = {one: order.size_bytes for one, order in self._kept.items() if one is not column}
        missing = taken + sum(others.values()) + size_bytes - self._least_room_bytes
        if missing > 0:
            missing -= max(0, self._columns_bytes() // 2 - self._least_room_bytes)
        leaving: list[object] = []
        for one in sorted(others, key=self._asked.__getitem__):
            if missing <= 0 or 2 * self._asked[one] >= self._asked[column]:
                break
            leaving.append(one)
            missing -= others[one]
        if missing > 0:
            return False
        for one in leaving:
            del self._kept[one]
        return True

    def _make(self, column: object, order: Order | None, values: NDArray[Any], rows: NDArray[np.int32]) -> None:
        made = None
        try:
            made = (order or Order(values[:0], rows[:0])).extended(values, rows)
        finally:
            with self._lock:
                del self._making[column]
                if made is not None:
                    self._kept[column] = made
