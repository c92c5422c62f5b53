"""What an expression means for one item."""

import operator
from collections.abc import Iterator, Mapping
from typing import Any

from pspsearch.filters.expression import And, Comparison, Expression, Not, Operator, Or, Presence, Value

ORDERS = {
    Operator.LESS: operator.lt,
    Operator.LESS_OR_EQUAL: operator.le,
    Operator.GREATER: operator.gt,
    Operator.GREATER_OR_EQUAL: operator.ge,
}


def holds(expression: Expression, attributes: Mapping[str, Any]) -> bool:
    """Whether the expression holds for an item with these attributes."""
    match expression:
        case And(parts):
            return all(holds(part, attributes) for part in parts)
        case Or(parts):
            return any(holds(part, attributes) for part in parts)
        case Not(part):
            return not holds(part, attributes)
        case Presence(path):
            return any(name == path or name.startswith(f"{path}.") for name, _ in flatten(attributes))
        case Comparison(path, Operator.UNEQUAL, value):
            values = [found for name, found in flatten(attributes) if name == path]
            return bool(values) and not any(compares(found, Operator.EQUAL, value) for found in values)
        case Comparison(path, how, value):
            return any(compares(found, how, value) for name, found in flatten(attributes) if name == path)


def flatten(attributes: Mapping[str, Any]) -> Iterator[tuple[str, Value]]:
    """Every path with each of its values: elements of a list one by one, members of an object under longer paths.

    null is nothing. Lists are looked into once: what is a list or an object inside one is nothing either.
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
                        yield prefix + name, to_float(element)


def to_float(number: float) -> float:
    """Whole numbers beyond 2^53 are rounded, and beyond the largest float they are infinite."""
    try:
        return float(number)
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")


def compares(found: Value, how: Operator, value: Value) -> bool:
    """Whether one value of an attribute compares so; values of different types never do."""
    if type(found) is not type(value):
        return False
    if how in ORDERS:
        return not isinstance(value, bool) and ORDERS[how](found, value)
    if isinstance(found, str) and isinstance(value, str) and "*" in value:
        return is_like(found, value)
    return found == value


def asks_every_text(how: Operator, value: Value) -> bool:
    """Whether each text must be looked at to compare so, by order or by pattern; others are merely looked up."""
    return isinstance(value, str) and (how in ORDERS or "*" in value)


def is_like(text: str, pattern: str) -> bool:
    """Whether the text is one that the pattern stands for: each `*` is any characters.

    Each part is taken where it comes first: what a later place would leave to the next parts, this one leaves, too.
    """
    first, *middle, last = pattern.split("*")
    place, end = len(first), len(text) - len(last)
    if not (text.startswith(first) and text.endswith(last)):
        return False
    for part in middle:
        place = text.find(part, place, end)
        if place < 0:
            return False
        place += len(part)
    return place <= end
