"""Filters: what parses, what it means, and what the error says if it does not parse."""

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lark import Lark

from pspsearch.errors import BadFilter, Overloaded
from pspsearch.filters import And, Comparison, Expression, Filter, Not, Operator, Or, Presence, meaning
from pspsearch.filters.meaning import like
from tests.filter_cases import expressions, spell

A, B, C = (Comparison(name, Operator.EQUAL, 1.0) for name in "abc")


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("a = 1 OR b = 1 AND c = 1", And((Or((A, B)), C))),
        ("a=1 AND b=1 OR c=1", And((A, Or((B, C))))),
        ("a=1 b=1 OR c=1", And((A, Or((B, C))))),
        ("a=1 b=1 AND c=1", And((And((A, B)), C))),
        ("(a=1 AND b=1) OR c=1", Or((And((A, B)), C))),
        ("NOT a=1 AND b=1", And((Not(A), B))),
        ("-a=1", Not(A)),
        ("-(a=1 OR b=1)", Not(Or((A, B)))),
        ("tags:red", Comparison("tags", Operator.HAS, "red")),
        ("tags:*", Presence("tags")),
        ('tags:"*"', Comparison("tags", Operator.HAS, "*")),
        ("price>=-3.5e2", Comparison("price", Operator.GREATER_OR_EQUAL, -350.0)),
        ("sold = true", Comparison("sold", Operator.EQUAL, True)),
        ('sold = "true"', Comparison("sold", Operator.EQUAL, "true")),
        ("day < 2026-11-21", Comparison("day", Operator.LESS, "2026-11-21")),
        ("a.b.c != x", Comparison("a.b.c", Operator.UNEQUAL, "x")),
        ("\"odd name\".b = 'it\\'s'", Comparison("odd name.b", Operator.EQUAL, "it's")),
        ("ANDROID = NOT", Comparison("ANDROID", Operator.EQUAL, "NOT")),
        ("*", None),
    ],
)
def test_parses_as_aip_160_says(text: str, expression: Expression | None) -> None:
    """OR binds tighter than AND, words side by side are a conjunction, and quotes make texts."""
    assert Filter.parse(text).expression == expression


@given(expressions)
def test_parses_what_is_spelt(expression: Expression) -> None:
    """A tree that is written as text is parsed back as itself."""
    assert Filter.parse(spell(expression)).expression == expression


@pytest.mark.parametrize(
    ("text", "position", "sentence"),
    [
        ("", 0, "at character 1 of the filter it ends; expected"),
        ("a", 1, "at character 2 of the filter it ends; expected '.' or one of ="),
        ("a = ", 4, "it ends; expected a text in quotes or a value"),
        ("a = 1)", 5, r"at character 6 of the filter there is '\)'; expected"),
        ("(a = 1", 6, r"it ends; expected.*'\)'"),
        ('a = "x', 4, "at character 5"),
        ("f(x)", 1, r"there is '\('"),
        ("a == 1", 3, "there is '='"),
        ("a = 1 AND", 9, "it ends"),
        ("just words", 5, "there is 'words'; expected '.' or one of ="),
        ("a, b", 1, "there is ', b'"),
        ("(" * 65 + "a=1" + ")" * 65, 64, "more than 64 parentheses"),
        ("a<x " * 11, 41, "at character 42 it does so once more"),
        ("a:* a<1 a=x " * 20 + "(a>=x OR NOT b.c!=x*) " * 5 + "a:'*x'", 351, "by order or by pattern at most 10 times"),
        ("a=" + "x" * 9000, 8192, "at most 8192 characters"),
        (
            "a=1 b < 18446744073709551616",
            8,
            "at character 9 of the filter there is 18446744073709551616: whole numbers",
        ),
        ("a=-9223372036854775809", 2, "from -9223372036854775808 to 18446744073709551615"),
        ("a = 1e999", 4, "at character 5 of the filter there is 1e999: numbers end at about 1.8e308"),
        ("NOT a:-" + "9" * 5000, 6, "whole numbers are from"),
    ],
)
def test_what_does_not_parse_is_named_with_its_place(text: str, position: int, sentence: str) -> None:
    """The error's position counts from 0, and its sentence from 1."""
    with pytest.raises(BadFilter, match=sentence) as caught:
        Filter.parse(text)

    assert caught.value.position == position


@pytest.mark.parametrize(
    "text", ["a<x " * 10, "a=x* " * 10, "a=x " * 1000, "a<1 " * 1000, "a!=x OR a<true OR " * 99 + "a:*"]
)
def test_only_what_asks_every_text_is_bounded(text: str) -> None:
    """Numbers are compared all at once, and a text for equality is looked up, so neither is bounded."""
    assert Filter.parse(text).matches({"a": True}) is ("true" in text)


@given(st.text(st.sampled_from("ab.:=<>!()\"'\\*- 1ANDORT\n\0é"), max_size=40))
def test_any_text_is_a_filter_or_a_bad_filter(text: str) -> None:
    """Nothing but BadFilter is ever raised, and what parses can be evaluated."""
    position = 0
    try:
        Filter.parse(text).matches({})
    except BadFilter as error:
        position = error.position

    assert 0 <= position <= len(text)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("n = 3", True),
        ("n = 3.0", True),
        ('n = "3"', False),
        ("n < 4", True),
        ("n < x", False),
        ("s = red", True),
        ("s = re*", True),
        ("s = RED", False),
        ("s >= red AND s < ree", True),
        ("t:red", True),
        ("t = blue", True),
        ("t:green", False),
        ("t != red", False),
        ("t != green", True),
        ("o.x = 1", True),
        ("o:*", True),
        ("e:*", False),
        ("z:*", False),
        ("missing:*", False),
        ("missing = 1", False),
        ("missing != 1", False),
        ("NOT missing = 1", True),
        ("flag = true", True),
        ("flag > false", False),
        ("flag = 1", False),
    ],
)
def test_meaning(text: str, holds: bool) -> None:
    """Types are never mixed, a list holds if an element does, and what is missing compares with nothing."""
    attributes: dict[str, Any] = {
        "n": 3,
        "s": "red",
        "t": ["red", "blue"],
        "o": {"x": 1},
        "e": [],
        "z": None,
        "flag": True,
    }

    assert Filter.parse(text).matches(attributes) is holds


def test_attributes_are_read_once_for_all_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wide item has tens of thousands of attributes, and a filter has hundreds of comparisons."""
    read: list[Any] = []
    flatten = meaning.flatten

    def spy(attributes: Any) -> Any:
        read.append(attributes)
        return flatten(attributes)

    monkeypatch.setattr(meaning, "flatten", spy)
    keep = Filter.parse("(" + " OR ".join(f"a<{number} OR b:* OR a!=x" for number in range(-300, 0)) + ") a=1")

    assert keep.matches({"a": 1, "c": {"b": 2}}) is True
    assert len(read) == 1


def test_what_is_kept_of_parsed_filters_is_bounded() -> None:
    """A thousand trees of long filters take 400 MB; they do not drive out those of short ones."""
    short = Filter.parse("kept = 1")
    size = len("n=1 ") * 2000
    for number in range(20):
        Filter.parse(f"n={number} " + "n=1 " * 2000)
    kept = sum(type(one) is Comparison for one in gc.get_objects())  # isinstance would run code of unknown objects

    assert kept * len("n=1 ") < 12 * size
    assert Filter.parse("kept = 1").expression is short.expression


def spy_on_parsing(monkeypatch: pytest.MonkeyPatch, before: Callable[[], object], after: Callable[[], object]) -> None:
    """Calls these functions in whatever thread parses a text."""
    parse = cast(Any, Lark.parse)

    def spy(*given: Any, **named: Any) -> Any:
        before()
        try:
            return parse(*given, **named)
        finally:
            after()

    monkeypatch.setattr(Lark, "parse", spy)


def long(number: int) -> str:
    """Makes a filter of 8,000 characters."""
    return f"long{number:04} = '{'x' * 7987}'"


async def test_what_is_prepared_is_at_hand_whatever_else_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """More filters may be parsed than are kept while the event loop stands still; none is ever parsed in the loop."""
    threads, parsed = list[threading.Thread](), threading.Semaphore(0)
    spy_on_parsing(monkeypatch, lambda: threads.append(threading.current_thread()), parsed.release)

    async def ask(text: str) -> Filter:
        await Filter.prepare(text)
        return Filter.parse(text)

    asked = [asyncio.ensure_future(ask(long(number))) for number in range(20)]
    await asyncio.sleep(0)  # until all of them wait for the thread
    for _ in asked:
        parsed.acquire()
    found = await asyncio.gather(*asked)

    assert [keep.text for keep in found] == [long(number) for number in range(20)]
    assert len(threads) == 20
    assert threading.main_thread() not in threads


async def test_more_long_filters_than_can_be_parsed_soon_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are refused at once. When those who wait leave, their filters are not parsed and there is room again."""
    parsed, may_go = list[None](), threading.Event()
    spy_on_parsing(monkeypatch, may_go.wait, lambda: parsed.append(None))
    asked = [asyncio.ensure_future(Filter.prepare(long(number))) for number in range(100, 170)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    refused = [one for one in asked if one.done()]
    for one in asked[1:]:
        one.cancel()
    await asyncio.wait(asked[1:])
    last = asyncio.ensure_future(Filter.prepare(long(170)))
    await asyncio.sleep(0)
    may_go.set()
    await asyncio.gather(asked[0], last)

    assert refused == asked[65:]
    for one in refused:
        with pytest.raises(Overloaded, match="too many long filters wait already: send this one again later"):
            one.result()
    assert len(parsed) == 2


def stands_for(pattern: str, text: str) -> bool:
    """Matches the slow way: which beginnings of the text match each beginning of the pattern."""
    reached = [True, *(False for _ in text)]
    for sign in pattern:
        if sign == "*":
            reached = [any(reached[: end + 1]) for end in range(len(reached))]
        else:
            reached = [False, *(was and sign == found for was, found in zip(reached, text, strict=False))]
    return reached[-1]


_SIGNS = "ab\n\ud800\udc00😀"


@given(st.text(st.sampled_from(_SIGNS + "***"), max_size=8), st.text(st.sampled_from(_SIGNS), max_size=12))
def test_patterns_stand_for_what_they_say(pattern: str, text: str) -> None:
    """A pattern matches what the slow way says, sign by sign."""
    assert like(f"*{pattern}")(text) is stands_for(f"*{pattern}", text)
    assert like(f"{pattern}*")(text) is stands_for(f"{pattern}*", text)


@pytest.mark.parametrize(
    ("pattern", "text", "holds"),
    [
        ("aba*aba", "aba", False),
        ("aba*aba", "abaaba", True),
        ("ab*ab*ab", "abab", False),
        ("a**b", "ab", True),
        ("**", "", True),
        ("a*\n*b", "a\n\nb", True),
        ("*\ud800", "x\ud800", True),
        ("\ud83d*", "\U0001f600", False),
        (".*", "x", False),
        ("*[ab]", "[ab]", True),
    ],
)
def test_parts_of_a_pattern_share_no_characters(pattern: str, text: str, holds: bool) -> None:
    """The parts mean only themselves, whatever the characters mean elsewhere."""
    assert like(pattern)(text) is holds


def test_hostile_pattern_answers() -> None:
    """Trying all ways to place 12 parts among 60 characters takes days; a process of its own can be ended."""
    ask = f"""if True:
        from pspsearch.filters import Filter
        print(Filter.parse('name = "{"*e" * 12}*zz"').matches(dict(name="e" * 60)))"""

    answered = subprocess.run([sys.executable, "-c", ask], capture_output=True, check=True, timeout=60)

    assert answered.stdout == b"False\n"


HOSTILE = {
    "zeros": "'a = ' + '0' * 2_000_000 + 'e1'",
    "quotes": "'\"' + '\\\\\"' * 500_000",
    "single quotes": "'\\'' + '\\\\\\'' * 500_000",
    "digits": "'a = ' + '1' * 2_000_000 + '.5'",
    "spaces": "' ' * 2_000_000 + 'a'",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_is_read_in_one_pass(text: str) -> None:
    """If every sign were tried with every other, this length would take an hour; a process of its own can be ended."""
    ask = f"""if True:
        from pspsearch.errors import BadFilter
        from pspsearch.filters import Filter, parser
        parser.MAX_CHARACTERS = 4_000_000
        try:
            Filter.parse({text})
        except BadFilter as error:
            print("bad")
        else:
            print("good")"""

    answered = subprocess.run([sys.executable, "-c", ask], capture_output=True, check=True, timeout=60)

    assert answered.stdout in {b"good\n", b"bad\n"}
