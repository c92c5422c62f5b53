"""Random attributes and random filters over them, for tests that compare two evaluations."""

from typing import Any

from hypothesis import strategies as st

from pspsearch.filters import And, Comparison, Expression, Not, Operator, Or, Presence

PATHS = ("a", "b", "c.d", "c.e.f", "odd name")
TEXTS = st.sampled_from(["", "red", "Red", "reddish", "blue", "é", "a*b", "it's", 'say "x"', "10"])
NUMBERS = st.sampled_from([-1.5, 0, 0.5, 1, 2, 10, 1e300, 2**53, 2**53 + 1, -(2**63), 2**63, 2**64 - 1, 2.0**64])
VALUES = st.one_of(TEXTS, NUMBERS, st.booleans())
_ELEMENTS = st.one_of(VALUES, st.integers(-3, 3), st.sampled_from([-0.0, 1.0, 2.0, 2.0**53]), st.none())
_LEAVES = st.one_of(_ELEMENTS, st.lists(_ELEMENTS, max_size=3))

attributes: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "a": _LEAVES,
        "b": _LEAVES,
        "c": st.one_of(
            _LEAVES,
            st.fixed_dictionaries({}, optional={"d": _LEAVES, "e": st.fixed_dictionaries({}, optional={"f": _LEAVES})}),
        ),
        "odd name": _LEAVES,
    },
)

_patterns = st.sampled_from(["red*", "*", "*d", "*e*", "r*d"])
_leaf: st.SearchStrategy[Expression] = st.one_of(
    st.builds(Presence, st.sampled_from((*PATHS, "c", "c.e"))),
    st.builds(Comparison, st.sampled_from(PATHS), st.sampled_from(list(Operator)), st.one_of(VALUES, _patterns)),
)


def _branches(parts: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    some = st.lists(parts, min_size=2, max_size=3).map(tuple)
    return st.one_of(st.builds(And, some), st.builds(Or, some), st.builds(Not, parts))


expressions = st.recursive(_leaf, _branches, max_leaves=8)


def spell(expression: Expression) -> str:
    """Writes the expression as text, with everything in parentheses and quotes."""
    match expression:
        case And(parts):
            return "(" + " AND ".join(map(spell, parts)) + ")"
        case Or(parts):
            return "(" + " OR ".join(map(spell, parts)) + ")"
        case Not(part):
            return f"NOT ({spell(part)})"
        case Presence(path):
            return f"{_quote_path(path)}:*"
        case Comparison(path, how, value):
            return f"{_quote_path(path)} {how.value} {_spell_value(value)}"


def _quote_path(path: str) -> str:
    return ".".join(name if name.isidentifier() else f'"{name}"' for name in path.split("."))


def _spell_value(value: str | float | bool) -> str:
    if not isinstance(value, str):
        return str(value).lower()
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
