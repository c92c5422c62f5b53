"""The attributes of rows by path, so that a filter is a few passes over arrays and not over a million dictionaries."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from pspsearch.filters import And, Comparison, Expression, Filter, Not, Operator, Or, Presence
from pspsearch.filters.expression import Value
from pspsearch.filters.meaning import ORDERS, asks_every_text, compares, flatten
from pspsearch.index.base import Mask
from pspsearch.index.growing_array import GrowingArray

_DTYPES = {"float": np.float64, "bool": np.bool_, "str": np.int32}
"""Of the values; a text's is its place among the column's texts."""

_ANY = "surrogatepass"
"""JSON can hold half of a pair that UTF-8 has no form for."""


class Columns:
    """What each row's attributes say, by row number. One thread appends, any others read what was there before.

    Sparse attributes and lists cost what they hold: each path and type has the row numbers that have such a value,
    ascending, a row once for each element of a list.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._columns: dict[tuple[str, str], _Column] = {}

    def append(self, attributes: Sequence[str]) -> None:
        """The next rows, each a JSON object."""
        for text in attributes:
            if text != "{}":
                for path, value in flatten(json.loads(text)):
                    self._column(path, type(value).__name__).append(self.rows, value)
            self.rows += 1

    def holds(self, keep: Filter, rows: int) -> Mask:
        """For which of the first `rows` rows the filter holds: what `Filter.matches` says of each."""
        if keep.expression is None:
            return np.ones(rows, np.bool_)
        return self._evaluate(keep.expression, rows)

    @property
    def size_bytes(self) -> int:
        """In memory, about."""
        return sum(column.size_bytes for column in list(self._columns.values()))

    def keep_rows(self, keep: Mask) -> "Columns":
        """Those of the first rows that `keep` holds for, numbered anew."""
        kept = Columns()
        kept.rows = int(np.count_nonzero(keep))
        numbers = np.cumsum(keep, dtype=np.int32) - 1
        for key, column in list(self._columns.items()):
            rows, values = column.first(len(keep))
            chosen = keep[rows]
            if chosen.any():
                places, values = _packed(column, values[chosen])
                kept._columns[key] = _Column(numbers[rows[chosen]], values, places)
        return kept

    def write(self, path: Path, rows: int) -> None:
        """The first rows, into one file; nothing large is made on the way, as texts can be most of an index."""
        columns = list(self._columns.items())
        header = json.dumps({"rows": rows, "columns": [key for key, _ in columns]}).encode()
        with path.open("wb") as file:
            np.save(file, np.frombuffer(header, np.uint8))
            for _, column in columns:
                numbers, values = column.first(rows)
                texts, values = _packed(column, values)
                np.save(file, numbers)
                np.save(file, values)
                _write_texts(file, texts)

    @classmethod
    def read(cls, path: Path) -> Self:
        """What `write` wrote."""
        columns = cls()
        with path.open("rb") as file:
            header = json.loads(np.load(file).tobytes())
            columns.rows = int(header["rows"])
            for name, kind in header["columns"]:
                columns._columns[name, kind] = _Column(np.load(file), np.load(file), _read_texts(file))
        return columns

    def _column(self, path: str, kind: str) -> "_Column":
        key = (path, kind)
        if key not in self._columns:
            self._columns[key] = _Column(np.empty(0, np.int32), np.empty(0, _DTYPES[kind]), [])
        return self._columns[key]

    def _evaluate(self, expression: Expression, rows: int) -> Mask:
        match expression:
            case And(parts):
                return self._fold(np.logical_and, parts, rows)
            case Or(parts):
                return self._fold(np.logical_or, parts, rows)
            case Not(part):
                return ~self._evaluate(part, rows)
            case Presence(path):
                return self._present(path, rows, below=True)
            case Comparison(path, Operator.UNEQUAL, value):
                return self._present(path, rows) & ~self._compare(path, Operator.EQUAL, value, rows)
            case Comparison(path, how, value):
                return self._compare(path, how, value, rows)

    def _fold(self, join: np.ufunc, parts: Sequence[Expression], rows: int) -> Mask:
        """One part after the other, so that thousands of them hold no more than two masks."""
        mask = self._evaluate(parts[0], rows)
        for part in parts[1:]:
            join(mask, self._evaluate(part, rows), out=mask)
        return mask

    def _present(self, path: str, rows: int, *, below: bool = False) -> Mask:
        """Which rows have a value there; or under a longer path, for an object."""
        mask = np.zeros(rows, np.bool_)
        for (name, _), column in list(self._columns.items()):
            if name == path or (below and name.startswith(f"{path}.")):
                mask[column.first(rows)[0]] = True
        return mask

    def _compare(self, path: str, how: Operator, value: Value, rows: int) -> Mask:
        mask = np.zeros(rows, np.bool_)
        column = self._columns.get((path, type(value).__name__))
        if column is not None:
            numbers, values = column.first(rows)
            mask[numbers[column.compare(values, how, value)]] = True
        return mask


class _Column:
    """The values of one type under one path."""

    def __init__(self, rows: NDArray[np.int32], values: NDArray[Any], texts: list[str]) -> None:
        self._rows = GrowingArray(rows)
        self._values = GrowingArray(values)
        self.texts = list(texts)
        self._places = {text: place for place, text in enumerate(texts)}

    @property
    def size_bytes(self) -> int:
        """In memory; a text is taken for a hundred bytes with its place."""
        return self._rows.size_bytes + self._values.size_bytes + 100 * len(self.texts)

    def append(self, row: int, value: Value) -> None:
        """One more value, of this row or a later one."""
        stored: float = self._place(value) if isinstance(value, str) else value
        self._values.append(np.array([stored], self._values.first(0).dtype))
        self._rows.append(np.array([row], np.int32))

    def first(self, rows: int) -> tuple[NDArray[np.int32], NDArray[Any]]:
        """The row numbers below `rows`, and the value beside each."""
        numbers = self._rows.first(len(self._rows))
        count = int(np.searchsorted(numbers, rows))
        return numbers[:count], self._values.first(count)

    def compare(self, values: NDArray[Any], how: Operator, value: Value) -> Mask:
        """Which of the values compare so; of a text's every spelling is looked at once."""
        if isinstance(value, str):
            if asks_every_text(how, value):
                return np.array([compares(text, how, value) for text in self.texts], np.bool_)[values]
            return values == self._places.get(value, -1)
        if how in ORDERS:
            return np.zeros(len(values), np.bool_) if isinstance(value, bool) else ORDERS[how](values, value)
        return values == value

    def _place(self, text: str) -> int:
        if text not in self._places:
            self.texts.append(text)
            self._places[text] = len(self.texts) - 1
        return self._places[text]


def _write_texts(file: BinaryIO, texts: Sequence[str]) -> None:
    """How long each is, and one after the other."""
    np.save(file, np.fromiter((len(text.encode(errors=_ANY)) for text in texts), np.int64, len(texts)))
    for text in texts:
        file.write(text.encode(errors=_ANY))


def _read_texts(file: BinaryIO) -> list[str]:
    return [file.read(length).decode(errors=_ANY) for length in np.load(file).tolist()]


def _packed(column: _Column, values: NDArray[Any]) -> tuple[list[str], NDArray[Any]]:
    """The texts that these values stand for, and the values by their new places; numbers stay as they are."""
    if not column.texts:
        return [], values
    places, packed = np.unique(values, return_inverse=True)
    return [column.texts[place] for place in places], packed.astype(np.int32)
