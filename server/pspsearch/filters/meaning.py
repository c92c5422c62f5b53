"""What an expression means for one item."""

import operator
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from functools import cached_property
from typing import Any, cast

from pspsearch.filters.expression import And, Comparison, Expression, Not, Operator, Or, Presence, Value
from pspsearch.number import one_form

ORDERS: Mapping[Operator, Callable[[Any, Any], Any]] = {
    Operator.LESS: operator.lt,
    Operator.LESS_OR_EQUAL: operator.le,
    Operator.GREATER: operator.gt,
    Operator.GREATER_OR_EQUAL: operator.ge,
}


class Type(StrEnum):
    """The type of a value. Values of different types are never equal and never ordered."""

    TRUTH = "truth"
    NUMBER = "number"
    TEXT = "text"


class Facts:
    """The attributes of one item, read once for all comparisons, so that each takes the same short time.

    Only a pattern looks at every text at its path.
    """

    def __init__(self, attributes: Mapping[str, Any]) -> None:
        found: dict[str, dict[Type, set[Value]]] = {}
        for path, value in flatten(attributes):
            found.setdefault(path, {}).setdefault(type_of(value), set()).add(value)
        self._values = {path: {of: _Values(values) for of, values in types.items()} for path, types in found.items()}

    @cached_property
    def _paths(self) -> list[str]:
        return sorted(self._values)

    def has(self, path: str) -> bool:
        """Whether there is a value at this path, or at a longer one if it leads to an object."""
        if path in self._values:
            return True
        place = bisect_left(self._paths, f"{path}.")
        return place < len(self._paths) and self._paths[place].startswith(f"{path}.")

    def has_value(self, path: str) -> bool:
        """Whether there is a value at exactly this path."""
        return path in self._values

    def compares(self, path: str, how: Operator, value: Value) -> bool:
        """Whether some value at the path compares so."""
        found = self._values.get(path, {}).get(type_of(value))
        return found is not None and found.compares(how, value)


class _Values:
    """The values of one type at one path."""

    def __init__(self, values: set[Value]) -> None:
        self._values = cast("set[Any]", values)

    @cached_property
    def _ends(self) -> tuple[Any, Any]:
        return min(self._values), max(self._values)

    def compares(self, how: Operator, value: Value) -> bool:
        """Whether some value compares so; for an order, only the outermost value decides."""
        if how in ORDERS:
            least, most = self._ends
            outermost = least if how in (Operator.LESS, Operator.LESS_OR_EQUAL) else most
            return not isinstance(value, bool) and ORDERS[how](outermost, value)
        if asks_every_text(how, value):
            return any(map(like(str(value)), self._values))
        return value in self._values


def holds(expression: Expression, facts: Facts) -> bool:
    """Whether the expression holds for an item with these attributes."""
    match expression:
        case And(parts):
            return all(holds(part, facts) for part in parts)
        case Or(parts):
            return any(holds(part, facts) for part in parts)
        case Not(part):
            return not holds(part, facts)
        case Presence(path):
            return facts.has(path)
        case Comparison(path, Operator.UNEQUAL, value):
            return facts.has_value(path) and not facts.compares(path, Operator.EQUAL, value)
        case Comparison(path, how, value):
            return facts.compares(path, how, value)


def flatten(attributes: Mapping[str, Any]) -> Iterator[tuple[str, Value]]:
    """Yields every path with each of its values: list elements one by one, object members under longer paths.

    null yields nothing, nor does a list or an object inside a list. Numbers are as `one_form` returns them.
    """
    waiting = [("", attributes)]
    while waiting:
        prefix, members = waiting.pop()
        for name, value in members.items():
            if isinstance(value, Mapping):
                waiting.append((f"{prefix}{name}.", value))  # pyright: ignore[reportUnknownArgumentType] - JSON
            else:
                for element in value if isinstance(value, list) else [value]:  # pyright: ignore[reportUnknownVariableType]
                    if isinstance(element, str | bool):
                        yield prefix + name, element
                    elif isinstance(element, int | float):
                        yield prefix + name, one_form(element)


def type_of(value: Value) -> Type:
    """The type of a value; whole numbers and others are one type."""
    if isinstance(value, bool):
        return Type.TRUTH
    return Type.TEXT if isinstance(value, str) else Type.NUMBER


def asks_every_text(how: Operator, value: Value) -> bool:
    """Whether the comparison must look at each text, for an order or a pattern; others are a lookup."""
    return isinstance(value, str) and (how in ORDERS or "*" in value)


def text_test(how: Operator, value: str) -> Callable[[str], bool]:
    """The test for each text, if `asks_every_text` says that the comparison needs one."""
    if how in ORDERS:
        return {
            Operator.LESS: value.__gt__,
            Operator.LESS_OR_EQUAL: value.__ge__,
            Operator.GREATER: value.__lt__,
            Operator.GREATER_OR_EQUAL: value.__le__,
        }[how]
    return like(value)


def split(pattern: str) -> tuple[str, list[str], str]:
    """What a text must begin with, what must follow in this order, and what it must end with."""
    first, *middle, last = pattern.split("*")
    return first, list(filter(None, middle)), last


def like(pattern: str) -> Callable[[str], bool]:
    """The test for texts that match the pattern, which has at least one `*`, each for any characters.

    Each part is matched at its first place: a later place would leave no more text for the next parts.
    """
    first, middle, last = split(pattern)
    start = len(first)

    def is_like(text: str) -> bool:
        place, end = start, len(text) - len(last)
        if not (text.startswith(first) and text.endswith(last)):
            return False
        for part in middle:
            place = text.find(part, place, end)
            if place < 0:
                return False
            place += len(part)
        return place <= end

    return is_like
