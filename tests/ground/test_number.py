"""Compares numbers in attributes, filters and columns with Python's own exact arithmetic."""

import json
import operator
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pspsearch.attributes import validate_attributes
from pspsearch.errors import BadFilter, InvalidRequest
from pspsearch.filters import Filter
from pspsearch.index.table.columns import Columns

EDGES = [0, 1, 2**52, 2**53, 2**63, 2**64, 10**20, 10**22, 10**308]
ENDINGS = ["", ".0", ".5", "e0", "0e-1", ".25e-1", "e-5", "e5", "e+300"]
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    ":": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _spell(sign: str, edge: int, step: int, ending: str) -> str:
    return f"{sign}{max(1, edge + step)}{ending}"


spellings = st.one_of(
    st.builds(_spell, st.sampled_from(["", "-"]), st.sampled_from(EDGES), st.integers(-3, 3), st.sampled_from(ENDINGS)),
    st.builds(_spell, st.sampled_from(["", "-"]), st.sampled_from(EDGES[3:6]), st.integers(-3, 3), st.just(".0")),
    st.integers(-(2**65), 2**65).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(["1e999", "-1e309", "1e-999", "-0", "-0.0", "1.7976931348623157e308", "5e-324"]),
    st.sampled_from(["18446744073709551616.0", "1844674407370955161600e-2"]),
)


def exact(text: str) -> Fraction | None:
    """The exact value of a text: a whole number of 64 bits, or else the nearest double; None if there is neither.

    Fractions are never rounded, and Python rounds a text to the nearest float.
    """
    if "e" not in text and Fraction(text).denominator == 1:
        number = Fraction(text)
        return number if -(2**63) <= number < 2**64 else None
    nearest = float(text)
    return None if nearest in (float("inf"), float("-inf")) else Fraction(nearest)


@settings(deadline=None)  # the first example builds the grammar
@given(st.lists(st.lists(spellings, max_size=3), max_size=6), st.sampled_from([*COMPARISONS, "!="]), spellings)
@example([["9007199254740993"], ["9007199254740992"], ["9007199254740993.0"]], "=", "9007199254740993")
@example([["1.8446744073709551616e19"]], ">", "18446744073709551615")
@example([["-9223372036854775808", "-9.3e18"]], "<", "-9223372036854775808.0")
def test_numbers_compare_exactly(rows: list[list[str]], how: str, asked: str) -> None:
    """They compare exactly in columns and one by one, whole ones with others; what has no exact meaning is refused."""
    value = exact(asked)
    if value is None:
        with pytest.raises(BadFilter, match="at character 5 of the filter"):
            Filter.parse(f"n {how:2}{asked}")
        return
    keep = Filter.parse(f"n{how}{asked}")
    forms: list[str] = []
    expected: list[bool] = []
    for numbers in rows:
        values = [exact(text) for text in numbers]
        text = f'{{"n":[{",".join(numbers)}]}}'
        if None in values:
            with pytest.raises(InvalidRequest, match=r"attributes hold .* at character \d+: "):
                validate_attributes(text)
            continue
        forms.append(validate_attributes(text))
        if how == "!=":
            expected.append(bool(values) and all(found != value for found in values))
        else:
            expected.append(any(COMPARISONS[how](found, value) for found in values))

    columns = Columns()
    columns.append(forms)

    assert columns.holds(keep, len(forms)).tolist() == expected
    assert [keep.matches(json.loads(form)) for form in forms] == expected


@pytest.mark.parametrize(
    ("stored", "filters"),
    [
        ("Infinity", ["n > 1.7976931348623157e308", "n > 18446744073709551615", "n:*"]),
        ("-Infinity", ["n < -1.7976931348623157e308", "n < -9223372036854775808"]),
        ("100000000000000000000", ["n = 1e20", "n > 18446744073709551615"]),
        ("100000000000000000001", ["n = 1e20"]),
        ("1" + "0" * 400, ["n > 1e308"]),
    ],
)
def test_what_was_stored_before_such_numbers_were_refused_is_the_nearest_double(
    stored: str, filters: list[str]
) -> None:
    """Infinity is more than every number; the catalog may hold all of these."""
    columns = Columns()
    columns.append([f'{{"n":{stored}}}'])

    for text in filters:
        keep = Filter.parse(text)
        assert keep.matches(json.loads(f'{{"n":{stored}}}')), text
        assert columns.holds(keep, 1).tolist() == [True], text
