"""The columns of an index by the paths of their attributes."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping

from pspsearch.filters import Operator
from pspsearch.filters.expression import Value
from pspsearch.filters.meaning import ORDERS, Type, type_of
from pspsearch.index.table.column import NUMBERS, Column, Kind

_NOTHING: Mapping[Kind, Column] = {}


class Paths:
    """Finds exactly the columns that a comparison must ask. One thread adds; any others read."""

    def __init__(self) -> None:
        self._columns: dict[str, dict[Kind, Column]] = {}
        self._sorted: tuple[str, ...] = ()
        """The sorted paths, as of the last question for an object."""

    def __len__(self) -> int:
        return len(self._columns)

    def __iter__(self) -> Iterator[tuple[str, Column]]:
        """Yields all columns that are there now."""
        for path, kinds in list(self._columns.items()):
            for column in list(kinds.values()):
                yield path, column

    def add(self, path: str, column: Column) -> None:
        """Adds a column of a kind that the path does not have yet."""
        self._columns.setdefault(path, {})[column.kind] = column

    def find(self, path: str, kind: Kind) -> Column | None:
        """Returns the column, or None if no row has such a value."""
        return self._columns.get(path, _NOTHING).get(kind)

    def at(self, path: str) -> list[Column]:
        """Returns the columns of exactly this path."""
        return list(self._columns.get(path, _NOTHING).values())

    def count_below(self, path: str) -> int:
        """Counts the paths that `below` goes through."""
        start, end = self._range(path)
        return 1 + end - start

    def below(self, path: str) -> list[Column]:
        """Returns the columns of this path and, if it is an object, of the paths below it."""
        start, end = self._range(path)
        return [column for name in (path, *self._sorted[start:end]) for column in self.at(name)]

    def asked(self, path: str, how: Operator, value: Value) -> list[Column]:
        """Returns the columns with values that may compare so."""
        kinds: tuple[Kind, ...] = (Kind.of(value),)
        if how in ORDERS:
            kinds = {Type.NUMBER: NUMBERS, Type.TRUTH: ()}.get(type_of(value), kinds)
        found = (self.find(path, kind) for kind in kinds)
        return [column for column in found if column is not None]

    def _range(self, path: str) -> tuple[int, int]:
        """Returns where the paths below this one lie among the sorted ones; `/` follows the dot."""
        names = self._sorted
        if len(names) != len(self._columns):
            known = list(self._columns)
            names = self._sorted = tuple(sorted([*names, *known[len(names) :]]))
        return bisect_left(names, f"{path}."), bisect_left(names, f"{path}/")
