"""Attributes of items: which texts are valid, and their canonical form."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pspsearch.attributes import validate_attributes
from pspsearch.errors import InvalidRequest
from pspsearch.number import LEAST, MOST

TEXTS = st.text(st.sampled_from('ab é"\\\n{]\U0001f600'), max_size=5)
JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(LEAST, MOST), st.floats(allow_nan=False, allow_infinity=False), TEXTS
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=10,
)


@given(st.dictionaries(TEXTS, JSON, max_size=4))
def test_equal_objects_have_one_form(attributes: dict[str, Any]) -> None:
    """The form says the same, is compact, and does not depend on the spelling."""
    spaced = json.dumps(attributes, indent=3)
    turned = json.dumps(dict(reversed(attributes.items())), ensure_ascii=False)

    form = validate_attributes(spaced)

    assert json.loads(form) == attributes
    assert validate_attributes(turned) == form
    assert validate_attributes(form) == form


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "are not JSON"),
        ("{", "are not JSON"),
        ("[1]", "are a JSON object, not '\\[1\\]'"),
        ("null", "are a JSON object"),
        ('{"a": NaN}', "hold NaN"),
        ('{"a": 1e999}', "hold 1e999 at character 7: numbers end at about 1.8e308"),
        ('{"9\\"9": "1", "b": [1.5, {"c": [2, -1E+400]}]}', "hold -1E\\+400 at character 36: numbers end"),
        ('{"a": 0, "b": 18446744073709551616}', "hold 18446744073709551616 at character 15: whole numbers are from"),
        (
            '{"a": -9223372036854775809}',
            "at character 7: whole numbers are from -9223372036854775808 to 18446744073709551615",
        ),
        ('{"a": ' + "1" * 5000 + "}", "hold 1{40} at character 7: whole numbers are from"),
        ('{"a": -Infinity}', "hold -Infinity"),
        ('{"a": 1, "a": 2}', "name a member twice"),
        ('{"a\\u0000": 1}', "NUL"),
        ('{"a": "\\ud800"}', "surrogate"),
        ('{"a": ' + "[" * 16 + "]" * 16 + "}", "nested more than 16 deep"),
        ('{"a": ' + "[" * 20000 + "]" * 20000 + "}", "nested more than 16 deep"),
        ('{"a": "' + "x" * 70000 + '"}', "at most 65536 bytes, not 70009"),
    ],
)
def test_what_cannot_be_attributes_is_a_sentence(text: str, sentence: str) -> None:
    """Each reason is named."""
    with pytest.raises(InvalidRequest, match=sentence):
        validate_attributes(text)


def test_sixteen_levels_are_allowed() -> None:
    """The bound itself is allowed."""
    text = '{"a":' + "[" * 15 + '"}{]["' + "]" * 15 + "}"

    assert validate_attributes(text) == text


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("9007199254740993", "9007199254740993"),
        ("9007199254740993.0", "9007199254740993"),
        ("18446744073709551615.00", "18446744073709551615"),
        ("-9.007199254740993E15", "-9007199254740992.0"),
        ("9007199254740993.5", "9007199254740994.0"),
        ("1844674407370955161600e-2", "1.8446744073709552e+19"),
        ("4.065308789905665e+16", "4.065308789905665e+16"),
        ("1.0", "1.0"),
        ("-0.0", "-0.0"),
        ("1e-999", "0.0"),
    ],
)
def test_whole_numbers_are_kept_exactly(text: str, form: str) -> None:
    """They are exact even with zeros after the point; others, and those with an exponent, are the nearest double."""
    assert json.loads(validate_attributes(f'{{"a":[{text}]}}')) == {"a": [json.loads(form)]}
