"""Wider queries, shared neighbours, and unlike hits, against plain rules."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pspsearch.ordering import BY_SCORE, CLOSEST, NEIGHBOURS, by_diversity, by_shared_neighbours, expand

SEEDS = st.integers(0, 1 << 30)


def clusters(seed: int, count: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Makes a query, and rows by descending score, in a few clusters of eight dimensions."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((4, 8))
    rows = centres[random.integers(0, 4, count + 1)] + 0.5 * random.standard_normal((count + 1, 8))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    query, found = rows[0], rows[1:]
    return query, found[np.argsort(-(found @ query), kind="stable")]


def plain_order(query: NDArray[np.float32], found: NDArray[np.float32]) -> list[float]:
    """What each row is ordered by, by the paper's definitions with sets, row by row."""
    rows = np.vstack([query, found])
    distances = np.clip(2 - 2 * (rows @ rows.T), 0, None)
    nearest = np.argsort(distances, axis=1, kind="stable")

    def mutual(row: int, count: int) -> set[int]:
        return {other for other in nearest[row][: count + 1] if row in nearest[other][: count + 1]}

    sets: list[dict[int, float]] = []
    for row in range(len(rows)):
        own = mutual(row, NEIGHBOURS)
        wider = set(own)
        for other in own:
            theirs = mutual(other, NEIGHBOURS // 2)
            if len(theirs & own) > 2 / 3 * len(theirs):
                wider |= theirs
        weights = {other: math.exp(-distances[row, other]) for other in wider}
        sets.append({other: weight / sum(weights.values()) for other, weight in weights.items()})
    dense = np.array([[of_row.get(other, 0.0) for other in range(len(rows))] for of_row in sets])
    smooth = [dense[nearest[row][:CLOSEST]].mean(axis=0) for row in range(len(rows))]
    farthest = distances[0].max()
    values: list[float] = []
    for row in range(1, len(rows)):
        shared, of_any = np.minimum(smooth[0], smooth[row]).sum(), np.maximum(smooth[0], smooth[row]).sum()
        values.append(BY_SCORE * distances[0, row] / farthest + (1 - BY_SCORE) * (1 - shared / of_any))
    return values


@given(SEEDS, st.integers(1, 60))
def test_shared_neighbours_order_as_the_paper_says(seed: int, count: int) -> None:
    """Matrices and sets give the same order, but for rounding."""
    query, found = clusters(seed, count)
    values = np.array(plain_order(query, found))

    order = by_shared_neighbours(query, found)

    assert sorted(order.tolist()) == list(range(count))
    assert (np.diff(values[order]) > -1e-5).all()  # float32


@pytest.mark.filterwarnings("error")
@given(SEEDS, st.integers(21, 60))
def test_copies_do_not_hide_the_best_row(seed: int, copies: int) -> None:
    """A row with more copies than it may have neighbours still is its own neighbour."""
    query, found = clusters(seed, 40)
    noise = 1e-4 * np.random.default_rng(seed).standard_normal((copies, 8))
    many = np.vstack([query + noise, found]).astype(np.float16).astype(np.float32)
    many = many[np.argsort(-(many @ query), kind="stable")]

    order = by_shared_neighbours(query, many)

    assert sorted(order.tolist()) == list(range(len(many)))
    assert order[0] < copies


def test_nothing_found_is_in_order() -> None:
    """There may be no row at all."""
    query, _ = clusters(0, 1)
    nothing = np.empty((0, 8), np.float32)

    assert by_shared_neighbours(query, nothing).tolist() == []
    assert by_diversity(np.empty(0, np.float32), nothing, 5, 0.5) == []
    assert expand(query, nothing, np.empty(0, np.float32)) == pytest.approx(query)


@given(SEEDS, st.integers(1, 30), st.integers(1, 40), st.floats(0.01, 1))
def test_each_hit_is_the_best_that_is_left(seed: int, count: int, wanted: int, diversity: float) -> None:
    """It weighs its score against its likeness to the nearest of the hits before it."""
    query, found = clusters(seed, count)
    scores = found @ query

    chosen = by_diversity(scores, found, wanted, diversity)

    assert len(set(chosen)) == len(chosen) == min(wanted, count)
    assert chosen[0] == 0 or diversity == 1
    for number in range(1, len(chosen)):
        likest = (found @ found[chosen[:number]].T).max(axis=1)
        worth = (1 - diversity) * scores - diversity * likest
        left = [place for place in range(count) if place not in chosen[:number]]
        assert worth[chosen[number]] == pytest.approx(max(worth[left]), abs=1e-5)  # float32


@given(SEEDS, st.integers(1, 20))
def test_an_expanded_query_is_nearer_to_what_it_found(seed: int, count: int) -> None:
    """It is of unit length, and no row of a negative score moves it."""
    query, found = clusters(seed, count)
    scores = found @ query

    wider = expand(query, found, scores)
    counted = scores > 0

    assert np.linalg.norm(wider) == pytest.approx(1, abs=1e-5)
    assert wider == pytest.approx(expand(query, found[counted], scores[counted]), abs=1e-5)
    assert (scores[counted] @ (found[counted] @ wider)) >= scores[counted] @ scores[counted] - 1e-4
