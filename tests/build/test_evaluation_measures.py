"""Measures of retrieval, verification and classification, against plain loops and scikit-learn."""

import itertools

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from pspsearch_build.errors import BuildError
from pspsearch_build.evaluation.bootstrap import estimate, estimate_difference
from pspsearch_build.evaluation.classification import classify_by_neighbours, classify_by_softmax
from pspsearch_build.evaluation.retrieval import RECALL_LEVELS, RightRanks, nearest, rank, rank_leaving_one_out
from pspsearch_build.evaluation.verification import verify

TOLERANCE = 1e-12
"""Both sides are sums of a few doubles."""

HALVES = [np.array(row, np.float32) for row in itertools.product([-0.5, 0.5], repeat=4)]
AXES = list(np.eye(4, dtype=np.float32))
ROWS = st.sampled_from([*HALVES, *AXES])
"""Unit vectors whose products are exact, so that many scores are equal."""

LABELLED = st.lists(st.tuples(ROWS, st.integers(0, 3)), min_size=1, max_size=14)


def split(rows: list[tuple[NDArray[np.float32], int]]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Descriptors and labels."""
    return np.stack([row for row, _ in rows]), np.array([label for _, label in rows], np.int64)


def rights_in_order(scores: list[float], rights: list[bool]) -> list[bool]:
    """Whether each answer is right, best first; of equal scores, the wrong ones first."""
    return [right for _, right in sorted(zip(scores, rights, strict=True), key=lambda pair: (-pair[0], pair[1]))]


def check(ranks: RightRanks, orders: list[list[bool]]) -> None:
    """Checks every measure against its definition; `orders` covers the queries that have a right answer."""
    assert len(ranks.queries) == len(ranks.ranks) == len(orders)
    for count in (1, 3, 5):
        assert ranks.recall_at(count).tolist() == [float(any(order[:count])) for order in orders]
        assert ranks.precision_at(count) == pytest.approx(
            [sum(order[:count]) / count for order in orders], abs=TOLERANCE
        )
    assert ranks.r_precision() == pytest.approx(
        [sum(order[: sum(order)]) / sum(order) for order in orders], abs=TOLERANCE
    )
    precisions = [[sum(order[:end]) / end for end in range(1, len(order) + 1)] for order in orders]
    means = [
        np.mean([one for one, right in zip(precision, order, strict=True) if right])
        for precision, order in zip(precisions, orders, strict=True)
    ]
    assert ranks.average_precision() == pytest.approx(means, abs=TOLERANCE)


@given(queries=LABELLED, gallery=LABELLED)
def test_retrieval_is_as_defined(
    queries: list[tuple[NDArray[np.float32], int]], gallery: list[tuple[NDArray[np.float32], int]]
) -> None:
    """The measures hold with ties, with classes of one picture, and with queries that have no right answer."""
    ranks = rank(*split(queries), *split(gallery))

    orders = [
        rights_in_order([float(query @ row) for row, _ in gallery], [label == other for _, other in gallery])
        for query, label in queries
    ]
    check(ranks, [order for order in orders if any(order)])
    assert ranks.queries.tolist() == [number for number, order in enumerate(orders) if any(order)]
    assert ranks.left_out == sum(not any(order) for order in orders)


@given(rows=LABELLED)
def test_leaving_one_out_never_finds_the_query(rows: list[tuple[NDArray[np.float32], int]]) -> None:
    """The query is no answer at all, neither right nor wrong."""
    ranks = rank_leaving_one_out(*split(rows))

    orders: list[list[bool]] = []
    for number, (query, label) in enumerate(rows):
        others = [row for other, row in enumerate(rows) if other != number]
        order = rights_in_order([float(query @ row) for row, _ in others], [label == other for _, other in others])
        orders.append(order)
    check(ranks, [order for order in orders if any(order)])


@given(seed=st.integers(0, 1000))
def test_average_precision_is_that_of_scikit_learn(seed: int) -> None:
    """Without equal scores, the two definitions are the same."""
    random = np.random.default_rng(seed)
    rows = random.standard_normal((30, 8)).astype(np.float32)
    labels = random.integers(0, 3, 30)

    ranks = rank(rows[:5], labels[:5], rows[5:], labels[5:])

    expected = [average_precision_score(labels[5:] == labels[n], rows[5:] @ rows[n]) for n in ranks.queries]
    assert ranks.average_precision() == pytest.approx(expected, abs=1e-9)


def test_precision_by_recall_is_the_best_from_there_on() -> None:
    """Right answers at ranks 1, 4 and 5 give precisions 1, 1/2 and 3/5."""
    ranks = RightRanks(np.array([0]), [np.array([1, 4, 5])], 0)

    curve = dict(zip(np.round(RECALL_LEVELS, 2).tolist(), ranks.precision_by_recall().tolist(), strict=True))

    assert [curve[level] for level in (0.0, 0.33, 0.34, 0.66, 0.67, 1.0)] == pytest.approx([1, 1, 0.6, 0.6, 0.6, 0.6])


def test_nearest_are_best_first() -> None:
    """Of equal scores, the lower row comes first; the query itself is left out if asked."""
    rows = np.array([[1, 0], [0, 1], [1, 0], [0.6, 0.8]], np.float32)

    assert nearest(rows[:1], rows, 3).tolist() == [[0, 2, 3]]
    assert nearest(rows, rows, 2, leave_one_out=True).tolist() == [[2, 3], [3, 0], [0, 3], [1, 0]]


@given(rows=st.lists(st.tuples(ROWS, st.integers(0, 2)), min_size=3, max_size=14))
def test_verification_is_as_defined(rows: list[tuple[NDArray[np.float32], int]]) -> None:
    """The area equals scikit-learn's over all pairs; at the threshold, the two mistakes are as close as possible."""
    descriptors, labels = split(rows)
    pairs = list(itertools.combinations(range(len(rows)), 2))
    same = np.array([labels[one] == labels[other] for one, other in pairs])
    scores = np.array([descriptors[one] @ descriptors[other] for one, other in pairs], np.float32)
    if same.all() or not same.any():
        with pytest.raises(BuildError, match="pairs of one class and pairs of two"):
            verify(descriptors, labels)
        return

    verification = verify(descriptors, labels)

    assert verification.area == pytest.approx(roc_auc_score(same, scores), abs=1e-9)
    accepted = scores >= verification.equal_error_score
    refused, mistaken = float(np.mean(~accepted[same])), float(np.mean(accepted[~same]))
    assert min(refused, 1 - verification.equal_error_rate) <= verification.equal_error_rate + 1e-9
    assert mistaken >= verification.equal_error_rate - 1e-9


def test_equal_error_rate_of_known_scores() -> None:
    """Two bunches lie at a right angle; with classes across them, three of four wrong pairs outscore the right ones."""
    apart = np.deg2rad([0, 10, 90, 100])
    rows = np.stack([np.cos(apart), np.sin(apart)], axis=1).astype(np.float32)

    assert verify(rows, np.array([0, 0, 1, 1])).equal_error_rate == 0
    assert verify(rows, np.array([0, 0, 1, 1])).area == 1
    assert verify(rows, np.array([0, 1, 0, 1])).equal_error_rate == pytest.approx(0.75)


def test_classifiers_learn_what_can_be_told_apart() -> None:
    """Three tight bunches are all classified correctly; if one bunch has two names, half of it is wrong."""
    random = np.random.default_rng(0)
    rows = np.repeat(np.eye(3, dtype=np.float32), 20, axis=0) + 0.05 * random.standard_normal((60, 3)).astype(
        np.float32
    )
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    labels = np.repeat([0, 1, 2], 20)
    twofold = labels + 3 * (np.arange(60) % 2) * (labels == 2)
    train, test = np.arange(60) % 4 < 2, np.arange(60) % 4 >= 2

    for classify in (classify_by_neighbours, classify_by_softmax):
        clear = classify(rows[train], labels[train], rows[test], labels[test])
        mixed = classify(rows[train], twofold[train], rows[test], twofold[test])
        assert clear.right.mean() == clear.precision == clear.recall == clear.f1 == 1
        assert clear.confusion.tolist() == [[10, 0, 0], [0, 10, 0], [0, 0, 10]]
        assert mixed.confusion[:2, :2].tolist() == [[10, 0], [0, 10]]
        assert mixed.confusion[2:, 2:].sum() == 10
        assert 2 / 3 <= mixed.right.mean() < 1


def test_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    """It holds 95 of 100 times, within three standard deviations of 2.2, for samples whose mean is known."""
    random = np.random.default_rng(1)
    estimates = [estimate((random.random(80) < 0.3).astype(np.float64), seed) for seed in range(100)]

    held = np.mean([one.low <= 0.3 <= one.high for one in estimates])

    assert 0.88 <= held <= 1
    assert all(one.low <= one.mean <= one.high for one in estimates)


def test_difference_of_pairs_is_surer_than_that_of_means() -> None:
    """Queries that are hard for one are hard for the other, so a small gain on each stands out from chance."""
    random = np.random.default_rng(2)
    hard = random.random(300)
    better = np.minimum(1, hard + 0.02)

    gain = estimate_difference(better, hard)

    assert 0 < gain.low <= gain.mean <= gain.high < 0.03
    assert estimate(hard).high > estimate(better).low
    assert estimate(hard, 3) == estimate(hard, 3)
