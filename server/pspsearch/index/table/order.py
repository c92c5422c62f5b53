"""Columns in the order of their values: kept for those that are asked for again, within a bound."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST_VALUES = 20_000
"""Of a column whose order is worth keeping: a pass over fewer is quick."""
_TAIL = 8
"""An order is made anew when it lacks one in so many of the values."""
_LATELY = 1024
"""Questions, after which what was asked before counts for half."""
_MIN_BYTES = 64 << 20
"""Room for orders where the columns are small."""

_MAKER = ThreadPoolExecutor(1, "column-order")


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """The first values of a column, ascending, and the row of each. Never changes."""

    values: NDArray[Any]
    rows: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def size_bytes(self) -> int:
        """In memory."""
        return self.values.nbytes + self.rows.nbytes

    def up_to(self, highest: np.generic | None) -> int:
        """How many of the values are that or less; None is less than all."""
        return 0 if highest is None else int(np.searchsorted(self.values, highest, "right"))

    def equal(self, wanted: NDArray[Any]) -> list[NDArray[np.int32]]:
        """The rows of each of these values."""
        starts = np.searchsorted(self.values, wanted, "left").tolist()
        ends = np.searchsorted(self.values, wanted, "right").tolist()
        return [self.rows[start:end] for start, end in zip(starts, ends, strict=True)]

    def extended(self, values: NDArray[Any], rows: NDArray[np.int32]) -> "Order":
        """With the values that follow the first ones, of a column that has all of these."""
        together = np.concatenate([self.values, values[len(self) :]])
        places = np.argsort(together, kind="stable")  # quick where most are in order already
        return Order(together[places], np.concatenate([self.rows, rows[len(self) :]])[places])


class Orders:
    """The orders of one index's columns. Any thread may ask; they are made in another one.

    They take as many bytes as half of the columns do. Where there is no more room, one takes the place of others that
    were asked for less than half as often lately.
    """

    def __init__(
        self,
        columns_bytes: Callable[[], int],
        *,
        begin: Callable[[Callable[[], None]], object] = _MAKER.submit,
        least_values: int = LEAST_VALUES,
        least_room_bytes: int = _MIN_BYTES,
    ) -> None:
        """`begin` starts what makes an order, in another thread; fewer values than the least have none."""
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
        """In memory."""
        with self._lock:
            return sum(order.size_bytes for order in self._kept.values())

    def find(self, column: object, values: NDArray[Any], rows: NDArray[np.int32]) -> Order | None:
        """The order of some first values of the column, which has these; None where there is none yet.

        One is begun where the column is asked for the second time, or has grown.
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
        """How often it was asked for lately."""
        self._asks += 1
        if self._asks % _LATELY == 0:
            self._asked = Counter({one: count // 2 for one, count in self._asked.items() if count > 1})
        self._asked[column] += 1
        return self._asked[column]

    def _make_room(self, column: object, size_bytes: int) -> bool:
        """Whether there is room for so many bytes, then without the orders whose place they take."""
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
