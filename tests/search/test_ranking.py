"""Which rows become hits: thresholds, exclusions, groups and near-duplicates."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pspsearch.domain import Descriptors, Found
from pspsearch.filters import Filter
from pspsearch.query import Options
from pspsearch.search.ranking import cut, group_value, pick, rank

QUERY = np.array([1, 0], np.float32)
ANGLES = st.lists(st.floats(0, 3), min_size=0, max_size=25)


def fan(angles: list[float]) -> tuple[Found, Descriptors]:
    """Makes descriptors in a plane at these angles from the query, and the answer that an index would give."""
    angles = sorted(angles)
    descriptors = np.array([[np.cos(angle), np.sin(angle)] for angle in angles], np.float32).reshape(-1, 2)
    ids = [f"i{number}" for number in range(len(angles))]
    return Found(np.arange(100, 100 + len(angles)), ids, np.cos(angles).astype(np.float32)), descriptors


def test_hits_are_the_best_rows_but_the_excluded() -> None:
    """Without other options the page is the head of the ranking, and the query's own item is no hit."""
    found, _ = fan([0.1, 0.2, 0.3, 0.4])

    assert cut(found, Options(limit=2), ["i0"]).ids == ["i1", "i2"]
    assert cut(found, Options(limit=2, offset=1), ["i0"]).ids == ["i2", "i3"]
    assert cut(found, Options(limit=2, offset=1), []).ids == ["i1", "i2"]
    assert cut(found, Options(limit=2, offset=4), []).ids == []


def test_least_score_cuts() -> None:
    """Every hit scores at least the bound."""
    found, _ = fan([0.1, 0.2, 1.5])

    assert cut(found, Options(min_score=0.9), []).ids == ["i0", "i1"]
    assert cut(found, Options(min_score=0.9, offset=1), ["i0"]).sequences.tolist() == []
    assert rank(QUERY, found, Options(min_score=0.9, group_by="x"), [], {}, None).rows.ids == ["i0", "i1"]


def test_groups_are_bounded_and_what_has_none_stands_alone() -> None:
    """At most `group_size` rows of one value are hits; rows without the attribute share no group."""
    found, _ = fan([0.1, 0.2, 0.3, 0.4, 0.5])
    groups = {100: '"a"', 101: '"a"', 102: '"a"'}

    picks = pick(found, Options(group_by="x", group_size=2), groups)

    assert [(p.place, p.group) for p in picks] == [(0, '"a"'), (1, '"a"'), (3, ""), (4, "")]


def test_duplicates_are_named_also_behind_the_last_hit() -> None:
    """Near-duplicates are folded into a hit in order, and a full page still collects its duplicates."""
    found, descriptors = fan([0.1, 0.1001, 1.0, 1.0001, 2.0])

    picks = pick(found, Options(limit=2, fold_above=0.999), {}, descriptors)

    assert [(p.place, p.duplicates) for p in picks] == [(0, ["i1"]), (2, ["i3"])]


@given(ANGLES, st.floats(0.5, 1), st.integers(1, 10))
def test_folding_equals_the_plain_rule(angles: list[float], least: float, limit: int) -> None:
    """A row is a hit if and only if no earlier hit scores at least the bound with it."""
    found, descriptors = fan(angles)
    expected: list[int] = []
    for place in range(len(angles)):
        scores = descriptors[expected] @ descriptors[place]
        if not (scores >= np.float32(least)).any():
            expected.append(place)

    picks = pick(found, Options(limit=limit, fold_above=least), {}, descriptors)

    assert [p.place for p in picks] == expected[:limit]


@given(ANGLES, st.integers(0, 12), st.integers(1, 10), st.integers(0, 5))
def test_only_the_first_rows_are_ordered_anew(angles: list[float], rerank: int, limit: int, offset: int) -> None:
    """They stay the first, each once; the rows behind them keep their order."""
    found, descriptors = fan(angles)
    options = Options(limit=limit, offset=offset, rerank=rerank, min_score=-0.5)
    able = int(np.count_nonzero(found.scores >= -0.5))

    ranked = rank(QUERY, found, options, ["i1"], {}, descriptors)
    whole = rank(QUERY, found, Options(limit=1000, rerank=rerank, min_score=-0.5), ["i1"], {}, descriptors).rows.ids
    expected = [id_ for id_ in found.ids[:able] if id_ != "i1"]

    assert sorted(whole[:rerank]) == sorted(expected[:rerank])
    assert whole[rerank:] == expected[rerank:]
    assert ranked.rows.ids == whole[offset : offset + limit]
    assert ranked.is_full is (len(expected) >= offset + limit)


def test_unlike_hits_come_before_likes_of_better_ones() -> None:
    """Without diversity the nearest come first; with much of it, each is far from those before it."""
    found, descriptors = fan([0.1, 0.11, 0.12, 0.5, 0.9])

    assert rank(QUERY, found, Options(limit=3, diversity=1e-9), [], {}, descriptors).rows.ids == ["i0", "i1", "i2"]
    assert rank(QUERY, found, Options(limit=3, diversity=0.8), [], {}, descriptors).rows.ids == ["i0", "i4", "i3"]


def test_diversity_keeps_to_the_order_that_neighbours_gave() -> None:
    """With next to none, the order is that of the shared neighbours alone."""
    query, *rows = np.random.default_rng(1).standard_normal((41, 8)).astype(np.float32) + 1
    descriptors = np.array([row / np.linalg.norm(row) for row in rows])
    query /= np.linalg.norm(query)
    descriptors = descriptors[np.argsort(-(descriptors @ query))]
    found = Found(np.arange(40), [f"i{number}" for number in range(40)], descriptors @ query)
    reranked = rank(query, found, Options(limit=8, rerank=40), [], {}, descriptors).rows.ids

    assert reranked != found.ids[:8]
    assert rank(query, found, Options(limit=8, rerank=40, diversity=1e-9), [], {}, descriptors).rows.ids == reranked


@pytest.mark.parametrize(
    ("path", "value"), [("a", '"x"'), ("b.c", "1"), ("b.d", ""), ("a.c", ""), ("e", ""), ("l", '["é", 1]')]
)
def test_value_of_a_group_is_json(path: str, value: str) -> None:
    """Dots go into objects; a missing or null value gives an empty group."""
    assert group_value('{"a": "x", "b": {"c": 1}, "e": null, "l": ["\\u00e9", 1]}', path) == value


@pytest.mark.parametrize(
    ("attributes", "path", "value"),
    [
        ({"a.b": 1}, "a.b", 1),
        ({"a": {"b.c": 1}}, "a.b.c", 1),
        ({"a.b": {"c": 1}}, "a.b.c", 1),
        ({"a": {"x": 1}, "a.b": {"x": 2, "c": 3}}, "a.b.c", 3),
        ({"a": {"b": None}, "a.b": 2}, "a.b", 2),
        ({"a": {"b": 1}, "a.b": 2}, "a.b", 1),
        ({"a.": {".b": 1}}, "a...b", 1),
        ({"": {"": 1}}, ".", 1),
        ({"a": 1, "a.b": [{"c": 1}]}, "a.b.c", None),
    ],
)
def test_a_group_is_found_where_a_filter_finds_it(attributes: dict[str, Any], path: str, value: int | None) -> None:
    """This includes names that contain dots."""
    names = ".".join(f'"{name}"' for name in path.split("."))

    assert group_value(json.dumps(attributes), path) == ("" if value is None else str(value))
    assert Filter.parse(f"{names} = {0 if value is None else value}").matches(attributes) is (value is not None)


class Watched(str):
    """A path that counts how often it is looked into."""

    looks = 0

    def __getitem__(self, place: Any) -> "Watched":
        Watched.looks += 1
        return Watched(super().__getitem__(place))

    def startswith(self, *given: Any) -> bool:
        """Works as for any text, and counts."""
        Watched.looks += 1
        return super().startswith(*given)


def test_the_work_of_a_group_is_that_of_its_attributes() -> None:
    """It does not grow with the dots of the path, of which there can be hundreds."""

    def tree(depth: int) -> dict[str, Any]:
        return {"a": tree(depth - 1), "a.a": tree(depth - 1)} if depth else {"x": 1}

    names = 2**10
    Watched.looks = 0

    assert group_value(json.dumps(tree(8)), Watched(".".join("a" * 512))) == ""
    assert 0 < Watched.looks < 4 * names


@pytest.mark.parametrize(
    ("spellings", "group"),
    [
        (("1", "1.0", "1e0"), "1"),
        (('[1.0, {"b": -0.0}]', '[1, {"b": 0}]'), '[1, {"b": 0}]'),
        (("1e18", "1000000000000000000"), "1000000000000000000"),
        (("9007199254740993",), "9007199254740993"),
        (("true",), "true"),
        (("1.5",), "1.5"),
        (("1e20", "100000000000000000000"), "1e+20"),
    ],
)
def test_a_number_is_one_group_however_it_is_written(spellings: tuple[str, ...], group: str) -> None:
    """It is one number to a filter, too; whole numbers of 64 bits are exact."""
    assert {group_value(f'{{"a": {text}}}', "a") for text in spellings} == {group}
