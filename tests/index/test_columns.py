"""Attribute columns, which must say of every row what the filter itself says of its attributes."""

import json
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pspsearch.errors import InvalidRequest
from pspsearch.filters import Comparison, Expression, Filter, Operator
from pspsearch.index.table import evaluation
from pspsearch.index.table.column import Column, Kind
from pspsearch.index.table.columns import Columns
from tests.filter_cases import VALUES, attributes, expressions, spell

ROWS = st.lists(attributes, max_size=12)


def fill(rows: list[dict[str, Any]]) -> Columns:
    """Returns the columns of these rows."""
    columns = Columns()
    columns.append([json.dumps(row) for row in rows])
    return columns


@settings(deadline=None)  # the first example builds the grammar
@given(ROWS, expressions)
def test_holds_for_the_rows_that_match(rows: list[dict[str, Any]], expression: Expression) -> None:
    """Vectorised and plain evaluation agree on every row."""
    keep = Filter.parse(spell(expression))

    mask = fill(rows).holds(keep, len(rows))

    assert mask.tolist() == [keep.matches(row) for row in rows]


@settings(deadline=None)  # the first example builds the grammar
@given(ROWS, ROWS, expressions)
def test_later_rows_change_nothing_for_earlier_ones(
    rows: list[dict[str, Any]], later: list[dict[str, Any]], expression: Expression
) -> None:
    """A reader that asks for the first rows gets them, whatever was appended since."""
    keep = Filter.parse(spell(expression))
    columns = fill(rows)
    before = columns.holds(keep, len(rows)).tolist()
    columns.append([json.dumps(row) for row in later])

    assert columns.holds(keep, len(rows)).tolist() == before


@settings(deadline=None)  # the first example builds the grammar
@given(ROWS, expressions, st.data())
def test_kept_rows_are_numbered_anew(rows: list[dict[str, Any]], expression: Expression, data: st.DataObject) -> None:
    """Compacting drops rows and changes nothing else; rows appended later are found, too."""
    keep = Filter.parse(spell(expression))
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))), np.bool_)
    kept = [row for row, stays in zip(rows, mask, strict=True) if stays]

    columns = fill(rows).keep_rows(mask)
    columns.append([json.dumps(row) for row in rows])

    expected = [keep.matches(row) for row in kept + rows]
    assert columns.holds(keep, len(expected)).tolist() == expected


@settings(deadline=None)  # the first example builds the grammar
@given(rows=ROWS, expression=expressions)
def test_written_rows_are_read_back(tmp_path_factory: Any, rows: list[dict[str, Any]], expression: Expression) -> None:
    """The file holds the rows that were asked for, and later ones can follow."""
    path: Path = tmp_path_factory.mktemp("columns") / "columns"
    keep = Filter.parse(spell(expression))
    columns = fill(rows + rows)
    columns.write(path, len(rows))

    again = Columns.read(path)
    again.append([json.dumps(row) for row in rows])

    expected = [keep.matches(row) for row in rows + rows]
    assert again.holds(keep, len(expected)).tolist() == expected


@settings(deadline=None)
@given(
    ROWS,
    st.lists(
        st.builds(Comparison, st.sampled_from("ab"), st.sampled_from(list(Operator)), VALUES), min_size=1, max_size=10
    ),
    st.sampled_from([" OR ", " AND "]),
)
def test_comparisons_that_are_made_together_mean_the_same(
    rows: list[dict[str, Any]], parts: list[Comparison], joint: str
) -> None:
    """Many comparisons of one path act as a list of ids: equal to one of them, or to none."""
    keep = Filter.parse(joint.join(map(spell, parts)))

    assert fill(rows).holds(keep, len(rows)).tolist() == [keep.matches(row) for row in rows]


def count_lines(columns: Columns, keep: Filter, rows: int) -> int:
    """Counts the lines of Python that run to evaluate the filter."""
    lines = 0

    def trace(_frame: Any, event: str, _given: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        columns.holds(keep, rows)
    finally:
        sys.settrace(before)
    return lines


@pytest.mark.parametrize("text", ["p != 1", "o:*", "NOT o.q:*", "p:*", "z != x"])
def test_other_columns_are_not_gone_through(text: str) -> None:
    """A collection may have very many columns, and a filter very many comparisons."""
    keep, own = Filter.parse(text), {"p": 1, "o": {"q": 1, "r": 2}}
    few, many = (fill([own, *({f"x{number}": number} for number in range(count))]) for count in (10, 2000))
    few.holds(keep, 1)
    many.holds(keep, 1)

    assert count_lines(many, keep, 11) == count_lines(few, keep, 11)


HOSTILE = {
    "comparisons": " ".join(f"n<{number % 10}" for number in range(1638)),
    "presences": "l:* OR " * 1000 + "l:*",
    "unequal": " ".join(f"l!=x{number % 10} n=1" for number in range(500)),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_too_much_work_is_refused_before_it_is_done(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would hold up the one thread that searches; a filter with fewer comparisons is answered."""
    rows = [{"n": list(range(5000)), "l": [f"x{number}" for number in range(5000)]} for _ in range(100)]
    columns = fill([*rows, {"n": 1, "l": "x"}])
    monkeypatch.delattr(Column, "first")  # nothing can be read

    with pytest.raises(
        InvalidRequest, match=r"the filter would take \d+\.\d times the work that one may, over \d+ rows"
    ):
        columns.holds(Filter.parse(text), columns.rows)

    monkeypatch.undo()
    assert np.flatnonzero(columns.holds(Filter.parse("n=1 l=x"), columns.rows)).tolist() == [len(rows)]


A_LINE = 20
"""How many nanoseconds Python takes at least for one line."""


@pytest.mark.parametrize("texts", [["e" * 2000] * 2, ["ee"] * 500, ["the end"] * 100], ids=len)
@pytest.mark.parametrize("pattern", ["*e*", "*e" * 240 + "*", "*" * 4000 + "e", "e*" * 4000, "*e*x" + "*e" * 100])
def test_what_a_pattern_takes_is_counted_by_its_parts(pattern: str, texts: list[str]) -> None:
    """Each part is sought by itself in every text; a short filter may have hundreds and hold up all searches."""
    rows = [{"t": f"{text}{number:03}"} for number, text in enumerate(texts)]
    columns, keep = fill(rows), Filter.parse(f't = "{pattern}"')
    column = columns._paths.find("t", Kind.STR)
    assert column is not None

    taken = A_LINE * count_lines(columns, keep, len(rows))

    assert taken <= column.steps(Operator.EQUAL, pattern) + 10_000  # the steps to begin with


def test_texts_that_must_all_be_looked_at_count_as_they_are_many_and_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text compared for equality is merely looked up."""
    short = fill([{"t": f"{number}"} for number in range(1000)])
    long = fill([{"t": f"{number} {'x' * 4000}"} for number in range(100)])
    monkeypatch.setattr(evaluation, "MAX_STEPS", 1 << 20)

    for columns in (short, long):
        long_part = f"t=*{'x' * 80}b* " * 2  # nearly all of it may be compared at each character
        for text, is_too_much in (
            ("t=*a*b* " * 10, True),
            ("t=*a*b* " * 2, False),
            (long_part, columns is long),
            ("t=a " * 100, False),
        ):
            if is_too_much:
                with pytest.raises(InvalidRequest, match="times the work"):
                    columns.holds(Filter.parse(text), columns.rows)
            else:
                assert not columns.holds(Filter.parse(text), columns.rows).any()


@pytest.mark.parametrize("text", ["n=1 " * 1000, "n=2 OR " * 1000 + "n=1"])
def test_many_comparisons_hold_few_masks(text: str) -> None:
    """A mask of a million rows is a megabyte, and a filter has room for thousands of comparisons."""
    rows = 100_000
    columns = fill([{"n": 1}])
    keep = Filter.parse(text)
    tracemalloc.start()

    mask = columns.holds(keep, rows)

    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.flatnonzero(mask).tolist() == [0]
    assert peak_bytes < 4 * rows


def test_texts_are_written_and_read_one_by_one(tmp_path: Path) -> None:
    """Texts can be most of an index, and there may be no room for a second copy."""
    texts = [f"{number}: \ud800 ü \0 {'x' * 500_000}" for number in range(40)]
    columns = fill([{"text": text} for text in texts])
    tracemalloc.start()

    columns.write(tmp_path / "columns", len(texts))

    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 4 << 20
    again = Columns.read(tmp_path / "columns")
    column = again._paths.find("text", Kind.STR)
    assert column is not None
    assert column.texts == texts
