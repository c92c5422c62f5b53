"""The attributes of rows by path, so that a filter is a few passes over arrays and not over a million dictionaries."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from pspsearch.filters import And, Comparison, Expression, Filter, Not, Operator, Or, Presence
from pspsearch.filters.expression import Value
from pspsearch.filters.meaning import ORDERS, Type, flatten, type_of
from pspsearch.index.base import Mask
from pspsearch.index.column import NUMBERS, Column, Kind

_AT_ONCE = 1 << 16
"""Values that are held before they are appended."""


class Columns:
    """What each row's attributes say, by row number. One thread appends, any others read what was there before."""

    def __init__(self) -> None:
        self.rows = 0
        self._columns: dict[tuple[str, Kind], Column] = {}

    def append(self, attributes: Sequence[str]) -> None:
        """The next rows, each a JSON object."""
        found: dict[tuple[str, Kind], tuple[list[int], list[Value]]] = {}
        held = 0
        for row, text in enumerate(attributes, self.rows):
            for path, value in flatten(json.loads(text)) if text != "{}" else ():
                rows, values = found.setdefault((path, Kind.of(value)), ([], []))
                rows.append(row)
                values.append(value)
                held += 1
            if held > _AT_ONCE:
                self._append(found)
                held = 0
        self._append(found)
        self.rows += len(attributes)

    def _append(self, found: dict[tuple[str, Kind], tuple[list[int], list[Value]]]) -> None:
        for key, (rows, values) in found.items():
            if key not in self._columns:
                self._columns[key] = Column.empty(key[1])
            self._columns[key].append(rows, values)
        found.clear()

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
        for key, column in list(self._columns.items()):
            left = column.keep_rows(keep)
            if left is not None:
                kept._columns[key] = left
        return kept

    def write(self, path: Path, rows: int) -> None:
        """The first rows, into one file; nothing large is made on the way."""
        columns = list(self._columns.items())
        header = json.dumps({"rows": rows, "columns": [key for key, _ in columns]}).encode()
        with path.open("wb") as file:
            np.save(file, np.frombuffer(header, np.uint8))
            for _, column in columns:
                column.write(file, rows)

    @classmethod
    def read(cls, path: Path) -> Self:
        """What `write` wrote."""
        columns = cls()
        with path.open("rb") as file:
            header = json.loads(np.load(file).tobytes())
            columns.rows = int(header["rows"])
            for name, kind in header["columns"]:
                columns._columns[name, Kind(kind)] = Column.read(Kind(kind), file)
        return columns

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
        for column in self._asked(path, how, value):
            column.mark(mask, how, value)
        return mask

    def _asked(self, path: str, how: Operator, value: Value) -> Iterator[Column]:
        """The columns with values that may compare so."""
        kinds: tuple[Kind, ...] = (Kind.of(value),)
        if how in ORDERS:
            kinds = {Type.NUMBER: NUMBERS, Type.TRUTH: ()}.get(type_of(value), kinds)
        for kind in kinds:
            column = self._columns.get((path, kind))
            if column is not None:
                yield column
