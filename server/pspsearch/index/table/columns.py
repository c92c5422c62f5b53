"""The attributes of rows by path, so that a filter takes a few passes over arrays and reads no dictionaries."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np

from pspsearch.filters import Filter
from pspsearch.filters.expression import Value
from pspsearch.filters.meaning import flatten
from pspsearch.index.arrays import Mask
from pspsearch.index.table.column import Column, Kind
from pspsearch.index.table.evaluation import Evaluation
from pspsearch.index.table.order import Orders
from pspsearch.index.table.paths import Paths

_AT_ONCE = 1 << 16
"""How many values are held before they are appended."""
_COLUMN_BYTES = 1000
"""The size of a column without its values."""

_SHORT, _FEW_PATHS = 512, 4096
"""The length of a filter in characters, and the number of paths, up to which a check takes almost no time."""
_QUICK_STEPS = 1 << 24


class Columns:
    """The attributes of each row, by row number. One thread appends; any others read what was there before."""

    def __init__(self) -> None:
        self.rows = 0
        self._paths = Paths()
        self._orders = Orders(lambda: self._own_bytes)

    def append(self, attributes: Sequence[str]) -> None:
        """Appends the next rows, each a JSON object."""
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
        for (path, kind), (rows, values) in found.items():
            column = self._paths.find(path, kind)
            if column is None:
                column = Column.empty(kind)
                self._paths.add(path, column)
            column.append(rows, values)
        found.clear()

    def is_quick(self, where: Filter, rows: int) -> bool:
        """Whether `holds` takes a few milliseconds at most; this check itself takes a fraction of one."""
        if where.expression is None:
            return True
        if len(where.text) > _SHORT or len(self._paths) > _FEW_PATHS:
            return False
        return Evaluation(self._paths, self._orders, rows).steps(where.expression) <= _QUICK_STEPS

    def holds(self, where: Filter, rows: int) -> Mask:
        """Returns which of the first `rows` rows the filter matches, as `Filter.matches` would say for each.

        Raises InvalidRequest, before any work, if that would be too much.
        """
        if where.expression is None:
            return np.ones(rows, np.bool_)
        evaluation = Evaluation(self._paths, self._orders, rows)
        evaluation.check(where.expression)
        return evaluation.mask(where.expression)

    @property
    def size_bytes(self) -> int:
        """The approximate size in memory, with the orders that are kept."""
        return self._own_bytes + self._orders.size_bytes

    @property
    def _own_bytes(self) -> int:
        return sum(len(path) + _COLUMN_BYTES + column.size_bytes for path, column in self._paths)

    def keep_rows(self, keep: Mask) -> "Columns":
        """Returns the columns of the first rows that `keep` marks, renumbered."""
        kept = Columns()
        kept.rows = int(np.count_nonzero(keep))
        for path, column in self._paths:
            left = column.keep_rows(keep)
            if left is not None:
                kept._paths.add(path, left)
        return kept

    def write(self, path: Path, rows: int) -> None:
        """Writes the first rows into one file, without building anything large in memory."""
        columns = list(self._paths)
        header = json.dumps({"rows": rows, "columns": [(path, column.kind) for path, column in columns]}).encode()
        with path.open("wb") as file:
            np.save(file, np.frombuffer(header, np.uint8))
            for _, column in columns:
                column.write(file, rows)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads what `write` wrote."""
        columns = cls()
        with path.open("rb") as file:
            header = json.loads(np.load(file).tobytes())
            columns.rows = int(header["rows"])
            for name, kind in header["columns"]:
                columns._paths.add(name, Column.read(Kind(kind), file))
        return columns
