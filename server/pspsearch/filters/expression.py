"""What a parsed filter says, as a tree."""

from dataclasses import dataclass, field
from enum import StrEnum

Value = str | int | float | bool
"""What an attribute is compared with; numbers are as `pspsearch.number.one_form` returns them."""


class Operator(StrEnum):
    """How an attribute is compared with a value."""

    EQUAL = "="
    """Equal; a `*` in a string stands for any characters."""
    UNEQUAL = "!="
    """The attribute exists, and none of its values is equal."""
    LESS = "<"
    LESS_OR_EQUAL = "<="
    GREATER = ">"
    GREATER_OR_EQUAL = ">="
    HAS = ":"
    """Some element of a list is equal; for anything else, the same as EQUAL."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Holds if some value of the attribute compares so; every element of a list is a value.

    Values of different types are never equal and never ordered. Whole numbers and others are one type and are compared
    exactly. Strings are ordered by code point.
    """

    path: str
    """The attribute's name; for one inside objects, the names joined by dots."""
    operator: Operator
    value: Value
    position: int = field(default=0, kw_only=True, compare=False, repr=False)
    """Where the operator stands, in characters from the start of the filter."""


@dataclass(frozen=True, slots=True)
class Presence:
    """Holds if the attribute has a value, written `path:*`; null, empty lists and empty objects are no values."""

    path: str


@dataclass(frozen=True, slots=True)
class And:
    """Holds if every part holds."""

    parts: "tuple[Expression, ...]"


@dataclass(frozen=True, slots=True)
class Or:
    """Holds if some part holds."""

    parts: "tuple[Expression, ...]"


@dataclass(frozen=True, slots=True)
class Not:
    """Holds if the part does not, which includes an attribute that does not exist."""

    part: "Expression"


Expression = Comparison | Presence | And | Or | Not
