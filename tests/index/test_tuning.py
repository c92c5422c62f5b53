"""How the effort of an approximate base is found."""

from itertools import pairwise
from typing import Self

import numpy as np
import pytest

from pspsearch.domain import Descriptors
from pspsearch.index.arrays import Matrix, RowNumbers
from pspsearch.index.bases.tuning import TO_TUNE, Sample, draw_sample, measure, recalls, tune
from pspsearch.index.candidates.finder import Advance, Effort, ladder
from pspsearch.index.candidates.plan import ExactPlan
from pspsearch.index.selection import Selection
from tests.clustered import clustered_descriptors, true_rows

MATRIX = clustered_descriptors(3_000, 16, seed=1).astype(np.float16)
EVERYTHING = Selection.of(None, len(MATRIX))


class ScriptedFinder:
    """A Finder that finds one tenth of each true answer per list probed, behind five wrong rows for each."""

    plan = ExactPlan(16, most_rows=None)
    breadths = [1, 2, 4, 8, 16]
    k_factors = (1, 2, 4, 8)
    size_bytes = 0

    def __init__(self, sample: Sample) -> None:
        self.rows = len(MATRIX)
        self._sample = sample

    def find(self, queries: Descriptors, count: int, breadth: int, selection: Selection) -> RowNumbers:
        """See Finder."""
        wrong = np.full((len(queries), 50), -1)
        found = np.hstack([wrong[:, : 5 * breadth], self._sample.truth[:, :breadth]])
        return found[:, :count]

    def visited_bytes(self, breadth: int) -> float:
        """See Finder: so much that a list costs more than any k_factor saves."""
        return 1e9 * breadth

    def words(self, effort: Effort) -> str:
        """See Finder."""
        return str(effort)

    def extended(self, matrix: Matrix, advance: Advance) -> Self:
        """See Finder."""
        return self

    def stored(self) -> None:
        """See Finder."""


@pytest.fixture(scope="module")
def sample() -> Sample:
    """Fifty queries."""
    return draw_sample(MATRIX, 50, 0, lambda _: None)


def test_truth_is_that_of_brute_force_without_the_origin(sample: Sample) -> None:
    """A query finds the row that it was made from, which must not count as an answer."""
    expected = [
        rows[rows != origin][:10]
        for rows, origin in zip(true_rows(MATRIX, sample.queries, 11), sample.origins, strict=True)
    ]

    assert (sample.truth == np.array(expected)).all()


def test_queries_are_nearer_to_their_origin_than_its_nearest_neighbour(sample: Sample) -> None:
    """They are moved by three quarters of that distance; scaling them back to length 1 takes a little off again."""
    origins = MATRIX[sample.origins].astype(np.float32)
    neighbours = MATRIX[[rows[1] for rows in true_rows(MATRIX, origins, 2)]].astype(np.float32)
    moved = np.linalg.norm(sample.queries - origins, axis=1) / np.linalg.norm(neighbours - origins, axis=1)

    assert np.linalg.norm(sample.queries, axis=1) == pytest.approx(1, abs=1e-5)  # float32
    assert 0.65 < np.median(moved) < 0.75
    assert 0.4 < moved.min() <= moved.max() < 0.9


def test_sample_is_the_same_every_time_and_another_for_another_seed(sample: Sample) -> None:
    """Tuning is reproducible, and is not judged on the sample that it used."""
    same, other = draw_sample(MATRIX, 50, 0, lambda _: None), draw_sample(MATRIX, 50, 1, lambda _: None)

    assert (same.queries == sample.queries).all()
    assert (other.origins != sample.origins).any()


@pytest.mark.parametrize(
    ("rows", "queries"), [(0, 1000), (1_000, 1000), (400_000, 1000), (1_000_000, 400), (100_000_000, 200)]
)
def test_a_sample_has_as_many_queries_as_the_rows_allow(rows: int, queries: int) -> None:
    """Each query costs as much as there are rows; too few would tell too little."""
    assert TO_TUNE.of(rows) == queries


def test_target_is_surely_reached(sample: Sample) -> None:
    """The margin is twice the standard error, because a mean at the target would miss it for every other sample."""
    truth = sample.truth.copy()
    truth[::2, :8] = len(MATRIX)  # cannot be found: with 8 lists the recall is 0.8 and 0 in turn, 0.4 +- 0.057
    uneven = Sample(sample.queries, sample.origins, truth)

    assert tune(ScriptedFinder(sample), 16, uneven, 0.28).breadth == 8
    assert tune(ScriptedFinder(sample), 16, uneven, 0.30).breadth == 16


def test_recall_is_the_share_of_true_rows_found() -> None:
    """It is derived again with plain loops, with padding on both sides and a query without an answer."""
    found = np.array([[1, 2, 3], [9, -1, -1], [4, 5, 6]])
    truth = np.array([[3, 7], [9, -1], [-1, -1]])
    expected = [
        len({int(row) for row in rows} & {int(row) for row in true if row >= 0}) / sum(true >= 0)
        for rows, true in zip(found, truth, strict=True)
        if sum(true >= 0)
    ]

    assert recalls(found, truth).tolist() == expected == [0.5, 1.0]


@pytest.mark.parametrize(
    ("target_recall", "effort"),
    [
        (0.05, Effort(breadth=1, k_factor=1)),
        (0.35, Effort(breadth=4, k_factor=4)),
        (0.75, Effort(breadth=8, k_factor=8)),
        (1.0, Effort(breadth=16, k_factor=8)),
    ],
)
def test_least_effort_that_reaches_the_target_is_taken(sample: Sample, target_recall: float, effort: Effort) -> None:
    """There is not one list more, and no more candidates than it takes to pass the wrong ones."""
    assert tune(ScriptedFinder(sample), 16, sample, target_recall) == effort


def test_greatest_effort_is_taken_where_none_reaches_the_target(sample: Sample) -> None:
    """The recall that it reaches is reported, not the target."""
    finder = ScriptedFinder(sample)
    finder.breadths = [1, 2]

    effort = tune(finder, 16, sample, target_recall=0.95)

    assert effort == Effort(breadth=2, k_factor=8)
    assert measure(lambda queries, _: finder.find(queries, 88, 2, EVERYTHING)[:, 10:], sample) == pytest.approx(0.2)


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_few_rows_are_measured_all_the_same(rows: int) -> None:
    """If there are fewer than ten others, those are the answer; a single row has none, and recall is 1."""
    few = draw_sample(MATRIX[:rows], 50, 0, lambda _: None)

    assert (few.truth >= 0).sum(axis=1).tolist() == [rows - 1] * rows
    assert measure(lambda queries, _: np.tile(np.arange(rows), (len(queries), 1)), few) == 1.0


def test_equal_rows_are_no_trouble() -> None:
    """With a thousand copies of one picture, every row is as near as every other."""
    copies = draw_sample(np.repeat(MATRIX[:1], 1_000, axis=0), 20, 0, lambda _: None)

    assert np.isfinite(copies.queries).all()
    assert (copies.truth != copies.origins[:, None]).all()


def test_ladder_has_both_ends_and_no_wide_steps() -> None:
    """Each step is at most half as high again, so the least effort is met closely."""
    steps = ladder(1, 1000)

    assert steps[0] == 1
    assert steps[-1] == 1000
    assert all(low < high <= max(low + 1, 1.5 * low) for low, high in pairwise(steps))
