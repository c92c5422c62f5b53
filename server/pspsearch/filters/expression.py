"""What a parsed filter says, as a tree."""

from dataclasses import dataclass, field
from enum import StrEnum

Value = str | int | float | bool
"""What an attribute is compared with; a number is in the one form that it has, see `pspsearch.number`."""


class Operator(StrEnum):
    """How an attribute is compared with a value."""

    EQUAL = "="
    """Equal; a `*` in a string stands for any characters."""
    UNEQUAL = "!="
    """The attribute is there, and no value of it is equal."""
    LESS = "<"
    LESS_OR_EQUAL = "<="
    GREATER = ">"
    GREATER_OR_EQUAL = ">="
    HAS = ":"
    """For a list: some element is equal; for anything else: as EQUAL."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Holds where some value of the attribute compares so; of a list, every element is a value.

    Values of different types are never equal and never ordered; whole numbers and others are of one type, and compared
    exactly. Strings are ordered by code point.
    """

    path: str
    """The attribute's name; inside objects, names joined by dots."""
    operator: Operator
    value: Value
    position: int = field(default=0, kw_only=True, compare=False, repr=False)
    """Of the operator, in characters from the start of the filter."""


@dataclass(frozen=True, slots=True)
class Presence:
    """Holds where the attribute has a value, written `path:*`; null, empty lists and empty objects are none."""

    path: str


@dataclass(frozen=True, slots=True)
class And:
    """Holds where every part does."""

    parts: "tuple[Expression, ...]"


@dataclass(frozen=True, slots=True)
class Or:
    """Holds where some part does."""

    parts: "tuple[Expression, ...]"


@dataclass(frozen=True, slots=True)
class Not:
    """Holds where the part does not: also where the attribute is not there."""

    part: "Expression"


Expression = Comparison | Presence | And | Or | Not
