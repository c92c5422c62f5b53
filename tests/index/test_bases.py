"""What the immutable bases answer, compared with brute force and under masks."""

from typing import Self

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pspsearch.domain import Descriptors, IndexKind
from pspsearch.index.arrays import Mask, Matrix, RowNumbers
from pspsearch.index.bases.approximate_base import ApproximateBase
from pspsearch.index.bases.base import Base
from pspsearch.index.bases.making import build_base
from pspsearch.index.candidates.finder import Advance, Effort
from pspsearch.index.candidates.plan import ExactPlan, IvfPlan
from pspsearch.index.selection import Selection
from tests.clustered import clustered_descriptors, recall, true_rows, true_scores
from tests.index_bases import DIMENSION, KINDS, MATRIX, QUERIES, ROWS, build, check_answers, mask_of

SHARES = {"all": 1.0, "half": 0.5, "5 %": 0.05, "0.1 %": 0.001}


def only(*rows: int) -> Mask:
    """Returns a mask of these rows."""
    mask = np.zeros(ROWS, bool)
    mask[list(rows)] = True
    return mask


MASKS = {None: None, **{name: mask_of(share) for name, share in SHARES.items()}, "one": only(77), "none": only()}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("count", [1, 10, ROWS + 5])
def test_exact_base_equals_brute_force(bases: dict[IndexKind, Base], mask: str | None, count: int) -> None:
    """It gives the true scores in order, whatever is kept and however many are wanted."""
    keep, queries = MASKS[mask], QUERIES[: 50 if count <= 10 else 3]
    scores, rows = bases[IndexKind.EXACT].search(queries, count, keep)

    check_answers(bases[IndexKind.EXACT], queries, count, keep)
    for found_scores, found, true, every in zip(
        scores, rows, true_rows(MATRIX, queries, count, keep), true_scores(MATRIX, queries), strict=True
    ):
        assert found_scores[: len(true)] == pytest.approx(every[true], abs=1e-5)
        assert (found[len(true) :] == -1).all()


@settings(deadline=None, max_examples=40)  # a busy machine is no failure
@given(seed=st.integers(0, 1000), share=st.sampled_from([0.02, 0.05, 0.3, 1.0]), count=st.integers(1, 70))
def test_exact_base_gives_ties_to_the_lower_row(seed: int, share: float, count: int) -> None:
    """Small whole numbers have exact and often equal scores, so the rows must be those of a stable sort."""
    random = np.random.default_rng(seed)
    matrix = random.integers(-1, 2, (300, 4)).astype(np.float16)
    queries = random.integers(-1, 2, (5, 4)).astype(np.float32)
    keep = random.random(300) < share

    _, rows = build_base(ExactPlan(4, None), matrix, 1.0, lambda _: None).search(queries, count, keep)

    for found, true in zip(rows, true_rows(matrix, queries, count, keep), strict=True):
        assert found[: len(true)].tolist() == true.tolist()


def test_exact_base_holds_no_copy_of_the_descriptors() -> None:
    """It reads the matrix itself, so a change that must never be made shows."""
    matrix = MATRIX[:100].copy()
    base = build(IndexKind.EXACT, matrix)
    query = matrix[42:43].astype(np.float32)
    assert base.search(query, 1)[1].tolist() == [[42]]

    matrix[42] = -matrix[42]

    assert base.search(query, 1)[1].tolist() != [[42]]


@pytest.mark.parametrize("mask", SHARES)
@pytest.mark.parametrize("count", [10, 100])
def test_recall_holds_under_masks_and_for_deeper_answers(approximate: Base, mask: str, count: int) -> None:
    """The bound is the target of 0.95 less 0.03, because the standard error of 50 queries is about 0.01."""
    keep = MASKS[mask]

    _, rows = approximate.search(QUERIES, count, keep)

    assert recall(rows, true_rows(MATRIX, QUERIES, count, keep)) >= 0.92


def test_measured_recall_is_that_of_queries_that_no_base_has_seen(approximate: Base) -> None:
    """They agree within 0.04: there are two samples, and moved rows are like new ones but not the same."""
    queries = clustered_descriptors(400, DIMENSION, seed=4)

    _, rows = approximate.search(queries, 10)

    assert approximate.measured_recall == pytest.approx(recall(rows, true_rows(MATRIX, queries, 10)), abs=0.04)
    assert approximate.measured_recall >= 0.93  # 0.95 less twice the standard error of its sample


def test_target_out_of_reach_is_reported_as_what_was_measured() -> None:
    """With noise in 8 coarse numbers per list, the greatest effort is used and its true recall reported."""
    noise = np.random.default_rng(0).standard_normal((700, 64)).astype(np.float16)
    plan = IvfPlan(dimension=64, lists=16, subdimension=64, training_rows=700)

    base = build_base(plan, noise, 0.999, lambda _: None)

    assert base.plan == f"{plan}; 16 lists probed, 32 candidates per row"
    assert 0.3 < base.measured_recall < 0.999


@settings(deadline=None, max_examples=40)  # a busy machine is no failure
@given(
    share=st.sampled_from([0.0, 0.0002, 0.004, 0.03, 0.2, 0.7, 1.0]),
    seed=st.integers(0, 1000),
    count=st.sampled_from([1, 3, 10, 40, 400]),
    queries=st.sampled_from([0, 1, 2, 7, 33, 50]),
)
@pytest.mark.parametrize("kind", KINDS)
def test_no_masked_row_is_found_and_no_answer_is_short(
    bases: dict[IndexKind, Base], kind: IndexKind, share: float, seed: int, count: int, queries: int
) -> None:
    """For any mask, count and batch size selectors are honoured and every kept row can be found."""
    check_answers(bases[kind], QUERIES[:queries], count, mask_of(share, seed))


@pytest.mark.parametrize("kept", [0.3, 0.02])
def test_answers_are_full_where_the_mask_keeps_only_what_is_far(base: Base, kept: float) -> None:
    """A filter goes by content: no row near the query is kept, and yet the answer is full."""
    query = QUERIES[:1]
    keep = np.ones(ROWS, bool)
    keep[true_rows(MATRIX, query, round((1 - kept) * ROWS))[0]] = False

    check_answers(base, query, 10, keep)


class ShortSightedFinder:
    """A Finder that finds nothing at all until it searches broadly enough."""

    plan = ExactPlan(DIMENSION, most_rows=None)
    rows = ROWS
    size_bytes = 0
    breadths = [1, 2, 30, 64]
    k_factors = (1,)

    def __init__(self, sees_at: int) -> None:
        self._sees_at = sees_at
        self.asked: list[tuple[int, int]] = []

    def find(self, queries: Descriptors, count: int, breadth: int, selection: Selection) -> RowNumbers:
        """See Finder. The second half of the queries finds rows at once."""
        self.asked.append((len(queries), breadth))
        rows = np.array(true_rows(MATRIX, queries, count, selection.keep))
        if breadth < self._sees_at:
            rows[: (len(queries) + 1) // 2, count // 2 :] = -1
        return rows

    def visited_bytes(self, breadth: int) -> float:
        """See Finder."""
        return 0.0

    def words(self, effort: Effort) -> str:
        """See Finder."""
        return str(effort)

    def extended(self, matrix: Matrix, advance: Advance) -> Self:
        """See Finder."""
        return self

    def stored(self) -> None:
        """See Finder."""


@pytest.mark.parametrize(
    ("sees_at", "asked"),
    [
        (1, [(4, 1)]),
        (16, [(4, 1), (2, 4), (1, 16)]),
        (1000, [(4, 1), (2, 4), (1, 16), (1, 64)]),
    ],
)
def test_short_answers_are_looked_for_more_broadly_and_in_the_end_exactly(
    sees_at: int, asked: list[tuple[int, int]]
) -> None:
    """Only short answers are repeated, four times as broadly each time; what no breadth finds, a scan does."""
    finder = ShortSightedFinder(sees_at)
    base = ApproximateBase(finder, MATRIX, Effort(breadth=1, k_factor=1), target_recall=0.95)

    _, rows = base.search(QUERIES[:4], 10)

    assert finder.asked == asked
    assert rows.tolist() == [row.tolist() for row in true_rows(MATRIX, QUERIES[:4], 10)]


def test_batch_equals_single_queries(base: Base) -> None:
    """They are equal bit for bit: neither rows nor scores depend on queries made at the same time."""
    keep = MASKS["half"]
    scores, rows = base.search(QUERIES, 10, keep)

    for number, query in enumerate(QUERIES):
        single_scores, single_rows = base.search(query[None], 10, keep)
        assert single_rows[0].tolist() == rows[number].tolist()
        assert single_scores[0].tolist() == scores[number].tolist()


@pytest.mark.parametrize("dimension", [1, 7, 33])
def test_dimension_that_does_not_divide_is_no_trouble(dimension: int) -> None:
    """Zeros pad the codes and change no score."""
    matrix = clustered_descriptors(1_500, dimension, seed=1).astype(np.float16)
    queries = clustered_descriptors(20, dimension, seed=3)

    base = build(IndexKind.IVF, matrix)

    check_answers(base, queries, 10, None, matrix)


def test_empty_matrix_has_no_answers() -> None:
    """A collection begins empty."""
    base = build(IndexKind.AUTO, MATRIX[:0])

    check_answers(base, QUERIES, 3, None, MATRIX[:1])
