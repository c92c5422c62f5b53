"""The values of one kind under one path, by row."""

import math
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from pspsearch.filters import Operator
from pspsearch.filters.expression import Value
from pspsearch.filters.meaning import ORDERS, asks_every_text, split, text_test
from pspsearch.index.arrays import Mask
from pspsearch.index.table.growing_array import GrowingArray
from pspsearch.index.table.order import Order, Orders
from pspsearch.number import LEAST, MOST


class Kind(StrEnum):
    """How a value is kept. Every value has one kind, and every number one form in its kind."""

    INT = "int"
    """A whole number that fits into 64 bits, signed."""
    UINT = "uint"
    """A larger whole number that fits into 64 bits, unsigned."""
    FLOAT = "float"
    """Any other number."""
    BOOL = "bool"
    STR = "str"

    @classmethod
    def of(cls, value: Value) -> "Kind":
        """Returns the one kind of a value."""
        kind = _KINDS[type(value)]
        return cls.UINT if kind is cls.INT and value > _MOST_SIGNED else kind  # pyright: ignore[reportOperatorIssue] - an int


_MOST_SIGNED = (1 << 63) - 1
_KINDS = {int: Kind.INT, float: Kind.FLOAT, bool: Kind.BOOL, str: Kind.STR}
_DTYPES = {Kind.INT: np.int64, Kind.UINT: np.uint64, Kind.FLOAT: np.float64, Kind.BOOL: np.bool_, Kind.STR: np.int32}
"""The type of the stored values. A text is stored as its place among the column's texts."""

NUMBERS = (Kind.INT, Kind.UINT, Kind.FLOAT)
"""The kinds that a comparison of numbers by order must ask."""

_UP_TO_IT = (Operator.LESS_OR_EQUAL, Operator.GREATER)
"""The operators for which the value itself counts among the smaller ones."""
_WORTH, _FEW = 8, 8
"""How many rows a pass sets in the time of one set by number, and how many values are compared singly."""

DENSE_STEPS, SPARSE_STEPS, ORDER_STEPS, PATTERN_STEPS, PART_STEPS = 1, 8, 50, 250, 100
"""The steps that a filter takes for one value or text.

From the left: a value of a column in which every row has one, a value of any other column, a text compared by order, a
text compared by pattern, and a part of the pattern sought in a text.
"""
_PART_CHARACTERS = 8
"""Characters of a part that are compared in one step; at worst all of them at each character of a text."""

_ANY = "surrogatepass"
"""JSON can hold half of a surrogate pair, which UTF-8 cannot encode."""


class Column:
    """The row numbers that have a value of one kind, ascending, and those values.

    Sparse attributes and lists cost only what they hold. A row appears once for each element of a list. One thread
    appends; any others read what was there before.
    """

    def __init__(self, kind: Kind, rows: NDArray[np.int32], values: NDArray[Any], texts: Sequence[str] = ()) -> None:
        self.kind = kind
        self._rows = GrowingArray(rows)
        self._values = GrowingArray(values)
        self._dense = _count_dense(rows, 0)
        self.texts = list(texts)
        self._places = {text: place for place, text in enumerate(texts)}
        self._characters = sum(map(len, texts))

    @classmethod
    def empty(cls, kind: Kind) -> Self:
        """Makes a column without values."""
        return cls(kind, np.empty(0, np.int32), np.empty(0, _DTYPES[kind]))

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def size_bytes(self) -> int:
        """The size in memory; a text counts as a hundred bytes with its place, plus its characters."""
        return self._rows.size_bytes + self._values.size_bytes + 100 * len(self.texts) + self._characters

    def steps(self, how: Operator, value: Value) -> int:
        """Estimates the most time that `mark` takes, in steps of about a nanosecond on a usual processor."""
        steps = len(self) * (DENSE_STEPS if self._dense == len(self) else SPARSE_STEPS)
        if not asks_every_text(how, value):
            return steps
        if how in ORDERS:
            return steps + len(self.texts) * ORDER_STEPS + self._characters // 4
        _, parts, _ = split(str(value))
        sought = min(len(self.texts) * len(parts), self._characters + len(self.texts))  # each takes its characters
        compared = self._characters * (1 + max(map(len, parts), default=0) // _PART_CHARACTERS)
        return steps + len(self.texts) * PATTERN_STEPS + sought * PART_STEPS + compared

    def append(self, rows: Sequence[int], values: Sequence[Value]) -> None:
        """Appends values of these rows, in ascending order. They must not come before the last row that is there."""
        stored = [self._place(value) if isinstance(value, str) else value for value in values]
        numbers = np.array(rows, np.int32)
        if self._dense == len(self):
            self._dense += _count_dense(numbers, len(self))
        self._values.append(np.array(stored, _DTYPES[self.kind]))
        self._rows.append(numbers)

    def first(self, rows: int) -> tuple[NDArray[np.int32], NDArray[Any]]:
        """Returns the row numbers below `rows`, and the value of each."""
        numbers = self._rows.first(len(self._rows))
        count = int(np.searchsorted(numbers, np.int32(rows)))  # with another type it would convert all of them
        return numbers[:count], self._values.first(count)

    def mark_present(self, mask: Mask) -> None:
        """Marks the mask's rows that have a value here."""
        rows, _ = self.first(len(mask))
        self._mark(mask, rows, None)

    def mark(self, mask: Mask, how: Operator, value: Value, orders: Orders | None = None) -> None:
        """Marks the mask's rows that have a value here which compares so. It is quick if an order is kept."""
        rows, values = self.first(len(mask))
        is_ordered = orders is not None and self.kind is not Kind.BOOL and not asks_every_text(how, value)
        order = orders.find(self, values, rows) if orders is not None and is_ordered else None
        found = None if order is None else self._find(order, how, value)
        if order is None or found is None or self._is_slower(found, values):
            self._mark(mask, rows, self._compare(values, how, value))
        else:
            mask[_within(found, order, rows, mask)] = True
            mask[rows[len(order) :][self._compare(values[len(order) :], how, value)]] = True

    def mark_any(self, mask: Mask, wanted: Sequence[Value], orders: Orders | None = None) -> None:
        """Marks the mask's rows that have one of these values, all of this column's kind, in one pass."""
        rows, values = self.first(len(mask))
        stored = [self._places.get(value, -1) if isinstance(value, str) else value for value in wanted]
        among = np.array(stored, values.dtype)
        order = None if orders is None or self.kind is Kind.BOOL else orders.find(self, values, rows)
        found = None if order is None else np.concatenate(order.equal(among))
        if order is None or found is None or self._is_slower(found, values):
            self._mark(mask, rows, _is_among(values, among))
        else:
            mask[_within(found, order, rows, mask)] = True
            mask[rows[len(order) :][_is_among(values[len(order) :], among)]] = True

    def _find(self, order: Order, how: Operator, value: Value) -> NDArray[np.int32]:
        """Returns the rows in the order that compare so; it may hold later rows than were asked for."""
        if isinstance(value, str):
            return order.equal(np.array([self._places.get(value, -1)], np.int32))[0]
        if how not in ORDERS:
            return order.equal(np.array([value], order.values.dtype))[0]
        count = order.up_to(_highest(self.kind, value, inclusive=how in _UP_TO_IT))
        return order.rows[:count] if how in (Operator.LESS, Operator.LESS_OR_EQUAL) else order.rows[count:]

    def _is_slower(self, found: NDArray[np.int32], values: NDArray[Any]) -> bool:
        """Whether one pass over all values is quicker than marking the found rows one by one."""
        return self._dense >= len(values) and len(found) * _WORTH > len(values)

    def _mark(self, mask: Mask, rows: NDArray[np.int32], chosen: Mask | None) -> None:
        """Marks the chosen rows, or all. If the rows are 0, 1, 2 and so on, no row number need be looked up."""
        count = len(rows)
        if count <= self._dense:
            there = mask[:count]
            there |= True if chosen is None else chosen
        else:
            mask[rows if chosen is None else rows[np.flatnonzero(chosen)]] = True

    def keep_rows(self, keep: Mask) -> Self | None:
        """Returns a column of the first rows that `keep` marks, renumbered; None if nothing is left."""
        rows, values = self.first(len(keep))
        chosen = keep[rows]
        if not chosen.any():
            return None
        texts, values = self._packed(values[chosen])
        numbers = np.cumsum(keep, dtype=np.int32) - 1
        return type(self)(self.kind, numbers[rows[chosen]], values, texts)

    def write(self, file: BinaryIO, rows: int) -> None:
        """Writes the first rows, with texts one after the other, because they can be most of an index."""
        numbers, values = self.first(rows)
        texts, values = self._packed(values)
        np.save(file, numbers)
        np.save(file, values)
        np.save(file, np.fromiter((len(text.encode(errors=_ANY)) for text in texts), np.int64, len(texts)))
        for text in texts:
            file.write(text.encode(errors=_ANY))

    @classmethod
    def read(cls, kind: Kind, file: BinaryIO) -> Self:
        """Reads what `write` wrote."""
        numbers, values, lengths = np.load(file), np.load(file), np.load(file)
        return cls(kind, numbers, values, [file.read(length).decode(errors=_ANY) for length in lengths.tolist()])

    def _compare(self, values: NDArray[Any], how: Operator, value: Value) -> Mask:
        """Returns which values compare so. Each distinct text is compared once."""
        if isinstance(value, str):
            if asks_every_text(how, value):
                count = len(self.texts)  # texts appended meanwhile belong to later rows
                return np.fromiter(map(text_test(how, value), self.texts), np.bool_, count)[values]
            return values == self._places.get(value, -1)
        if how not in ORDERS:
            return values == np.array(value, values.dtype)
        highest = _highest(self.kind, value, inclusive=how in _UP_TO_IT)
        up_to: Mask = np.zeros(len(values), np.bool_) if highest is None else values <= highest
        return up_to if how in (Operator.LESS, Operator.LESS_OR_EQUAL) else ~up_to

    def _place(self, text: str) -> int:
        if text not in self._places:
            self.texts.append(text)
            self._places[text] = len(self.texts) - 1
            self._characters += len(text)
        return self._places[text]

    def _packed(self, values: NDArray[Any]) -> tuple[list[str], NDArray[Any]]:
        """Returns the texts that these values stand for, and the values by their new places.

        Numbers stay as they are.
        """
        if self.kind is not Kind.STR:
            return [], values
        places, packed = np.unique(values, return_inverse=True)
        return [self.texts[place] for place in places], packed.astype(np.int32)


def _within(found: NDArray[np.int32], order: Order, rows: NDArray[np.int32], mask: Mask) -> NDArray[np.int32]:
    """Drops rows beyond the mask, which an order may already know."""
    return found if len(order) <= len(rows) else found[found < len(mask)]


def _is_among(values: NDArray[Any], wanted: NDArray[Any]) -> Mask:
    if len(wanted) > _FEW:
        return np.isin(values, wanted)
    found: Mask = np.zeros(len(values), np.bool_)
    for one in wanted:
        found |= values == one
    return found


def _count_dense(rows: NDArray[np.int32], start: int) -> int:
    """Counts how many of these rows, from the first on, are `start`, `start` + 1 and so on."""
    others = np.flatnonzero(rows != np.arange(start, start + len(rows)))
    return int(others[0]) if len(others) else len(rows)


def _highest(kind: Kind, number: float, *, inclusive: bool) -> np.generic | None:
    """Returns the highest value of the kind below the number, or up to it if `inclusive`; None if there is none.

    This makes comparisons exact, because NumPy rounds when it compares an int64 with a float.
    """
    if kind is Kind.FLOAT:
        nearest = float(number)
        is_below = nearest <= number if inclusive else nearest < number
        return np.float64(nearest if is_below else math.nextafter(nearest, -math.inf))
    least, most = (0, MOST) if kind is Kind.UINT else (LEAST, _MOST_SIGNED)
    if math.isinf(number):
        highest = most if number > 0 else least - 1
    else:
        highest = math.floor(number) if inclusive else math.ceil(number) - 1
    if highest < least:
        return None
    return (np.uint64 if kind is Kind.UINT else np.int64)(min(highest, most))
