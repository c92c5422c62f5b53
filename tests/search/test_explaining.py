"""How a score is shared among cells, by the arithmetic alone."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pspsearch.search.explaining import cells_of, finest, match, share, weigh

Rows = NDArray[np.float32]

DRAWS = settings(max_examples=50, derandomize=True, deadline=None, database=None)
SEEDS = st.integers(0, 2**32 - 1)


def unit(rows: NDArray[Any]) -> Rows:
    """Rows of length 1."""
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def draw_cells(rng: np.random.Generator, count: int = 36, dimension: int = 256) -> Rows:
    """Cells that have something in common, as those of one picture have: a cosine of about a half."""
    return unit(rng.normal(size=(count, dimension)) + rng.normal(size=dimension))


@given(SEEDS)
@DRAWS
def test_a_linear_head_leaves_no_remainder(seed: int) -> None:
    """The weights are found again, to the percent that keeps noise out, and the shares are the score."""
    rng = np.random.default_rng(seed)
    cells, query = draw_cells(rng), unit(rng.normal(size=256))
    true = rng.uniform(0, 1, len(cells)) * (rng.random(len(cells)) > 0.3)
    descriptor = unit(true @ cells)
    true = true / np.linalg.norm(true @ cells)

    weights = weigh(descriptor, cells)

    assert np.abs(weights - true).max() < 0.01 * true.max()
    assert share(weights, cells, query).sum() == pytest.approx(float(descriptor @ query), abs=0.002)


@given(SEEDS)
@DRAWS
def test_weights_of_any_head_are_not_negative_and_lead_nearer(seed: int) -> None:
    """Even if the descriptor has little to do with the cells."""
    rng = np.random.default_rng(seed)
    cells = draw_cells(rng)
    descriptor = unit(rng.uniform(-1, 1, len(cells)) @ cells + rng.normal(size=256))

    weights = weigh(descriptor, cells)

    assert weights.min() >= 0
    assert np.linalg.norm(descriptor - weights @ cells) < 1 + 1e-6


def test_a_descriptor_against_all_cells_gets_no_weight() -> None:
    """It ends, and everything is remainder."""
    cells = draw_cells(np.random.default_rng(0))

    assert not weigh(-unit(cells.sum(axis=0)), cells).any()


@given(SEEDS, st.integers(0, 35))
@DRAWS
def test_a_thing_in_one_cell_gets_most_of_the_score(seed: int, place: int) -> None:
    """All other cells show the same ground, each with some noise."""
    rng = np.random.default_rng(seed)
    ground, thing = np.linalg.qr(rng.normal(size=(256, 2)))[0].T
    cells = np.tile(ground, (36, 1))
    cells[place] = thing
    cells = unit(cells + rng.normal(size=cells.shape) * 0.01)

    shares = share(weigh(unit(cells.sum(axis=0)), cells), cells, unit(thing))

    assert shares.argmax() == place
    assert shares[place] > 0.5 * np.abs(shares).sum()


@given(SEEDS)
@DRAWS
def test_cells_that_are_alike_share_alike(seed: int) -> None:
    """Noise of the size that bf16 makes does not choose one of them."""
    rng = np.random.default_rng(seed)
    cells = unit(np.tile(unit(rng.normal(size=256)), (36, 1)) + rng.normal(size=(36, 256)) * 1e-4)

    weights = weigh(unit(cells.sum(axis=0) + rng.normal(size=256) * 0.003), cells)

    assert weights.max() < 1.5 * weights.mean()


@given(SEEDS)
@DRAWS
def test_pairs_are_each_others_best(seed: int) -> None:
    """The same cells in another order find themselves, and asking from the other side gives the same pairs."""
    rng = np.random.default_rng(seed)
    cells, others = draw_cells(rng), draw_cells(rng, 25)
    weights, other_weights = rng.uniform(size=36), rng.uniform(size=25)
    order = rng.permutation(36)

    again = match(cells, cells[order], weights, weights[order])
    pairs = match(cells, others, weights, other_weights)
    back = match(others, cells, other_weights, weights)

    assert sorted((left, int(order[right])) for left, right, _ in again) == [(n, n) for n in range(36)]
    assert [left for left, _, _ in again] == np.argsort(-(weights**2)).tolist()
    assert pairs
    assert {(left, right) for left, right, _ in pairs} == {(left, right) for right, left, _ in back}
    alike = cells @ others.T
    for left, right, cosine in pairs:
        assert cosine == pytest.approx(alike[left].max()) == pytest.approx(alike[:, right].max())


@pytest.mark.parametrize(
    ("bins", "across"), [((1, 2, 3, 6), 6), ((6, 3), 6), ((1,), 1), ((), 0), ((1, 16, 17), 16), ((64,), 0)]
)
def test_the_finest_level_that_is_not_too_fine(bins: tuple[int, ...], across: int) -> None:
    """Its cells are cut out of those of all levels."""
    assert finest(bins) == across
    if across:
        cells = np.concatenate([np.full((size * size, 2), size, np.float32) for size in bins])
        assert np.array_equal(cells_of(across, bins, cells), np.full((across**2, 2), across))
