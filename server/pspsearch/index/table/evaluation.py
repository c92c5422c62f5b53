"""Evaluates a filter over all rows, and estimates how long that takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pspsearch.errors import InvalidRequest
from pspsearch.filters import And, Comparison, Expression, Not, Operator, Or, Presence
from pspsearch.filters.expression import Value
from pspsearch.filters.meaning import asks_every_text
from pspsearch.index.arrays import Mask
from pspsearch.index.table.column import Column, Kind
from pspsearch.index.table.order import Orders
from pspsearch.index.table.paths import Paths

MAX_STEPS = 1 << 30
"""The most steps that a filter may take over an index: about a second, and less if an order of the column is kept."""

_COLUMN_STEPS = 4000
"""The steps to begin with a column."""
_ROWS_A_STEP = 4
"""How many rows of two masks are combined in one step."""


@dataclass(frozen=True, slots=True)
class _Among:
    """Comparisons with several values of one path, made in one pass."""

    path: str
    values: tuple[Value, ...]
    negated: bool
    """Whether a value must be there and none of them equal; otherwise one must be equal."""


_Part = Expression | _Among


class Evaluation:
    """Evaluates filters over the first rows of columns."""

    def __init__(self, paths: Paths, orders: Orders, rows: int) -> None:
        self._paths = paths
        self._orders = orders
        self._rows = rows

    def check(self, expression: Expression) -> None:
        """Raises InvalidRequest if the filter would take too many steps. It is known before the first step."""
        steps = self.steps(expression)
        if steps > MAX_STEPS:
            raise InvalidRequest(
                f"the filter would take {steps / MAX_STEPS:.1f} times the work that one may, over {self._rows} rows: "
                "compare less often, with attributes of fewer values, or texts by fewer patterns"
            )

    def steps(self, expression: _Part) -> int:
        """Estimates the most steps that it takes, each about a nanosecond; a kept order of a column makes it fewer."""
        steps = self._rows // _ROWS_A_STEP
        match expression:
            case And(parts):
                return steps + self._steps_of(_gather(parts, Operator.UNEQUAL))
            case Or(parts):
                return steps + self._steps_of(_gather(parts, Operator.EQUAL))
            case Not(part):
                return steps + self.steps(part)
            case Presence(path):
                count = self._paths.count_below(path) * _COLUMN_STEPS
                return count if count > MAX_STEPS else steps + _touch(self._paths.below(path))
            case _Among(path, values, negated):
                columns = self._paths.at(path)
                return steps + (1 + negated) * _touch(columns) + 100 * len(values)
            case Comparison(path, Operator.UNEQUAL, value):
                asked = self._paths.asked(path, Operator.EQUAL, value)
                equal = sum(column.steps(Operator.EQUAL, value) for column in asked)
                return 3 * steps + _touch(self._paths.at(path)) + equal
            case Comparison(path, how, value):
                asked = self._paths.asked(path, how, value)
                return steps + sum(_COLUMN_STEPS + column.steps(how, value) for column in asked)

    def mask(self, expression: _Part) -> Mask:
        """Returns which rows it matches. Even thousands of comparisons hold no more than two masks."""
        match expression:
            case And(parts):
                return self._all(_gather(parts, Operator.UNEQUAL))
            case Not(part):
                return ~self.mask(part)
            case Comparison(path, Operator.UNEQUAL, value):
                return self._all([Presence(path), Not(Comparison(path, Operator.EQUAL, value))], below=False)
            case _Among(path, values, negated=True):
                return self._all([Presence(path), Not(Or(_equal(path, values)))], below=False)
            case _:
                mask = np.zeros(self._rows, np.bool_)
                self._mark(mask, expression)
                return mask

    def _all(self, parts: Sequence[_Part], *, below: bool = True) -> Mask:
        mask: Mask | None = None
        for part in parts:
            one = self._present(part.path) if isinstance(part, Presence) and not below else self.mask(part)
            mask = one if mask is None else np.logical_and(mask, one, out=mask)
            if not mask.any():
                break
        assert mask is not None, "a conjunction has parts"
        return mask

    def _present(self, path: str) -> Mask:
        """Returns which rows have a value at exactly this path."""
        mask = np.zeros(self._rows, np.bool_)
        for column in self._paths.at(path):
            column.mark_present(mask)
        return mask

    def _mark(self, mask: Mask, expression: _Part) -> None:
        """Marks the rows that it matches, and leaves the others as they are."""
        match expression:
            case Or(parts):
                for part in _gather(parts, Operator.EQUAL):
                    self._mark(mask, part)
            case Presence(path):
                for column in self._paths.below(path):
                    column.mark_present(mask)
            case _Among(path, values, negated=False):
                for kind, some in _by_kind(values).items():
                    column = self._paths.find(path, kind)
                    if column is not None:
                        column.mark_any(mask, some, self._orders)
            case Comparison(path, how, value) if how is not Operator.UNEQUAL:
                for column in self._paths.asked(path, how, value):
                    column.mark(mask, how, value, self._orders)
            case _:
                np.logical_or(mask, self.mask(expression), out=mask)

    def _steps_of(self, parts: Sequence[_Part]) -> int:
        return sum(self.steps(part) for part in parts)


def _touch(columns: Sequence[Column]) -> int:
    """Returns the steps of one pass over all values of the columns."""
    return sum(_COLUMN_STEPS + column.steps(Operator.EQUAL, False) for column in columns)


def _gather(parts: Sequence[Expression], how: Operator) -> Sequence[_Part]:
    """Gathers the parts that compare one path with several values: `a = 1 OR a = 2`, or `a != 1 AND a != 2`."""
    values: dict[str, list[Value]] = {}
    others: list[_Part] = []
    for part in parts:
        is_equality = isinstance(part, Comparison) and _plain(part.operator) is how
        if isinstance(part, Comparison) and is_equality and not asks_every_text(Operator.EQUAL, part.value):
            values.setdefault(part.path, []).append(part.value)
        else:
            others.append(part)
    negated = how is Operator.UNEQUAL
    gathered = [
        Comparison(path, how, some[0]) if len(some) == 1 else _Among(path, tuple(some), negated)
        for path, some in values.items()
    ]
    return [*gathered, *others]


def _plain(how: Operator) -> Operator:
    return Operator.EQUAL if how is Operator.HAS else how


def _equal(path: str, values: Sequence[Value]) -> tuple[Comparison, ...]:
    return tuple(Comparison(path, Operator.EQUAL, value) for value in values)


def _by_kind(values: Sequence[Value]) -> Mapping[Kind, list[Value]]:
    kinds: dict[Kind, list[Value]] = {}
    for value in values:
        kinds.setdefault(Kind.of(value), []).append(value)
    return kinds
