"""Attribute columns: they say of every row what the filter itself says of its attributes."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pspsearch.filters import Expression, Filter
from pspsearch.index.column import Kind
from pspsearch.index.columns import Columns
from tests.filter_cases import attributes, expressions, spell

ROWS = st.lists(attributes, max_size=12)


def fill(rows: list[dict[str, Any]]) -> Columns:
    """Columns of these rows."""
    columns = Columns()
    columns.append([json.dumps(row) for row in rows])
    return columns


@given(ROWS, expressions)
def test_holds_for_the_rows_that_match(rows: list[dict[str, Any]], expression: Expression) -> None:
    """Vectorised and plain evaluation agree on every row."""
    keep = Filter.parse(spell(expression))

    mask = fill(rows).holds(keep, len(rows))

    assert mask.tolist() == [keep.matches(row) for row in rows]


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


@given(ROWS, expressions, st.data())
def test_kept_rows_are_numbered_anew(rows: list[dict[str, Any]], expression: Expression, data: st.DataObject) -> None:
    """Compacting drops rows and changes nothing else; what is appended then is found as well."""
    keep = Filter.parse(spell(expression))
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))), np.bool_)
    kept = [row for row, stays in zip(rows, mask, strict=True) if stays]

    columns = fill(rows).keep_rows(mask)
    columns.append([json.dumps(row) for row in rows])

    expected = [keep.matches(row) for row in kept + rows]
    assert columns.holds(keep, len(expected)).tolist() == expected


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
    """They can be most of an index; a second copy of them all might be more than there is room for."""
    texts = [f"{number}: \ud800 ü \0 {'x' * 500_000}" for number in range(40)]
    columns = fill([{"text": text} for text in texts])
    tracemalloc.start()

    columns.write(tmp_path / "columns", len(texts))

    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 4 << 20
    again = Columns.read(tmp_path / "columns")
    assert again._columns["text", Kind.STR].texts == texts
