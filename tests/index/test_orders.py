"""Kept orders of columns, which change what a filter costs but never what it says."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pspsearch.filters import Expression, Filter
from pspsearch.index.table.columns import Columns
from pspsearch.index.table.order import Orders
from tests.filter_cases import attributes, expressions, spell

ROWS = st.lists(attributes, max_size=12)


def ordered(least_room_bytes: int = 1 << 20) -> Columns:
    """Makes columns that at once keep the order of any column asked for twice, however small."""
    columns = Columns()
    columns._orders = Orders(lambda: 0, begin=lambda make: make(), least_values=1, least_room_bytes=least_room_bytes)
    return columns


@settings(deadline=None)  # the first example builds the grammar
@given(ROWS, st.lists(ROWS, max_size=3), expressions)
def test_an_order_changes_no_answer(
    first: list[dict[str, Any]], later: list[list[dict[str, Any]]], expression: Expression
) -> None:
    """It changes none for rows that came later, nor for a reader who sees fewer rows than it has."""
    keep, rows, columns = Filter.parse(spell(expression)), list[dict[str, Any]](), ordered()
    for some in (first, *later):
        rows += some
        columns.append([json.dumps(row) for row in some])
        expected = [keep.matches(row) for row in rows]
        for _ in range(3):
            assert columns.holds(keep, len(rows)).tolist() == expected
        assert columns.holds(keep, len(first)).tolist() == expected[: len(first)]


def test_an_order_is_made_where_a_column_is_asked_for_again() -> None:
    """Only one is made at a time, and again when the column has grown by an eighth; a small column gets none."""
    begun: list[Callable[[], None]] = []
    orders = Orders(lambda: 0, begin=begun.append, least_values=80)
    values, rows = np.arange(200)[::-1].copy(), np.arange(200, dtype=np.int32)
    column = object()

    assert orders.find(column, values[:79], rows[:79]) is None
    assert [orders.find(column, values[:80], rows[:80]) for _ in range(3)] == [None] * 3
    assert len(begun) == 1
    begun.pop()()
    made = orders.find(column, values[:88], rows[:88])
    assert made is not None
    assert made.rows.tolist() == list(range(79, -1, -1))
    assert begun == []
    assert orders.find(column, values, rows) is made
    begun.pop()()
    again = orders.find(column, values, rows)
    assert again is not None
    assert again.rows.tolist() == list(range(199, -1, -1))
    assert again.values.tolist() == list(range(200))


def test_what_orders_hold_is_bounded_and_counted() -> None:
    """An order gives way to one asked for twice as often; one that has no room even alone is not made."""
    orders = Orders(lambda: 0, begin=lambda make: make(), least_values=1, least_room_bytes=3000)
    columns = [object() for _ in range(4)]
    values, rows = np.arange(100), np.arange(100, dtype=np.int32)

    def has(number: int) -> bool:
        return orders.find(columns[number], values, rows) is not None

    assert [has(number) for number in (0, 0, 0, 1, 1, 1)] == [False, False, True] * 2
    assert orders.size_bytes == 2400
    assert [has(2) for _ in range(8)] == [False] * 7 + [True]
    assert orders.size_bytes == 2400
    assert sorted(has(number) for number in (0, 1)) == [False, True]
    many = np.arange(300)
    for _ in range(30):
        assert orders.find(columns[3], many, many.astype(np.int32)) is None
    assert orders.size_bytes == 2400


def test_columns_that_are_all_asked_for_do_not_drive_each_other_out() -> None:
    """An order without room is not made over and over."""
    begun: list[Callable[[], None]] = []
    orders = Orders(lambda: 0, begin=begun.append, least_values=1, least_room_bytes=3000)
    columns = [object() for _ in range(3)]
    values, rows = np.arange(100), np.arange(100, dtype=np.int32)
    made = 0
    for _ in range(1000):
        for column in columns:
            orders.find(column, values, rows)
            for make in begun:
                make()
            made += len(begun)
            begun.clear()

    assert made == 2


def test_orders_count_as_memory_of_the_columns() -> None:
    """They count in what an operator sees, and for a bound on memory."""
    columns, keep = ordered(), Filter.parse("n = 3")
    columns.append([json.dumps({"n": number}) for number in range(1000)])
    before = columns.size_bytes
    columns.holds(keep, 1000)

    columns.holds(keep, 1000)

    assert columns.size_bytes - before == 1000 * (8 + 4)
