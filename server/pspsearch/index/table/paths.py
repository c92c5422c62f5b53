"""The columns of an index by the paths of their attributes."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping

from pspsearch.filters import Operator
from pspsearch.filters.expression import Value
from pspsearch.filters.meaning import ORDERS, Type, type_of
from pspsearch.index.table.column import NUMBERS, Column, Kind

_NOTHING: Mapping[Kind, Column] = {}


class Paths:
    """Finds the columns that a comparison asks, and no others. One thread adds, any others read."""

    def __init__(self) -> None:
        self._columns: dict[str, dict[Kind, Column]] = {}
        self._sorted: tuple[str, ...] = ()
        """Of the paths that there were when objects were last asked for."""

    def __len__(self) -> int:
        return len(self._columns)

    def __iter__(self) -> Iterator[tuple[str, Column]]:
        """All that there are now."""
        for path, kinds in list(self._columns.items()):
            for column in list(kinds.values()):
                yield path, column

    def add(self, path: str, column: Column) -> None:
        """One of a kind that the path has not yet."""
        self._columns.setdefault(path, {})[column.kind] = column

    def find(self, path: str, kind: Kind) -> Column | None:
        """None where no row has such a value."""
        return self._columns.get(path, _NOTHING).get(kind)

    def at(self, path: str) -> list[Column]:
        """Those of just this path."""
        return list(self._columns.get(path, _NOTHING).values())

    def count_below(self, path: str) -> int:
        """How many paths `below` goes through."""
        start, end = self._range(path)
        return 1 + end - start

    def below(self, path: str) -> list[Column]:
        """Those of this path and of the longer ones, for an object."""
        start, end = self._range(path)
        return [column for name in (path, *self._sorted[start:end]) for column in self.at(name)]

    def asked(self, path: str, how: Operator, value: Value) -> list[Column]:
        """Those with values that may compare so."""
        kinds: tuple[Kind, ...] = (Kind.of(value),)
        if how in ORDERS:
            kinds = {Type.NUMBER: NUMBERS, Type.TRUTH: ()}.get(type_of(value), kinds)
        found = (self.find(path, kind) for kind in kinds)
        return [column for column in found if column is not None]

    def _range(self, path: str) -> tuple[int, int]:
        """Where the paths below this one are among the sorted ones; `/` follows the dot."""
        names = self._sorted
        if len(names) != len(self._columns):
            known = list(self._columns)
            names = self._sorted = tuple(sorted([*names, *known[len(names) :]]))
        return bisect_left(names, f"{path}."), bisect_left(names, f"{path}/")
