"""Bases to test, and what every one of them must do."""

import numpy as np
import pytest

from pspsearch.domain import Descriptors, IndexKind
from pspsearch.index.arrays import Mask, Matrix
from pspsearch.index.bases.base import Base
from pspsearch.index.bases.choice import choose_plan
from pspsearch.index.bases.making import build_base
from pspsearch.index.memory import IndexMemory
from tests.clustered import clustered_descriptors, true_scores

ROWS, DIMENSION = 20_000, 32
MATRIX = clustered_descriptors(ROWS, DIMENSION, seed=1).astype(np.float16)
MORE = np.vstack([MATRIX, clustered_descriptors(5_000, DIMENSION, seed=2).astype(np.float16)])
QUERIES = clustered_descriptors(50, DIMENSION, seed=3)  # from the same clusters, but in no base

KINDS = [IndexKind.EXACT, IndexKind.IVF, IndexKind.HNSW]
APPROXIMATE = KINDS[1:]


def build(kind: IndexKind, matrix: Matrix = MATRIX, target_recall: float = 0.95) -> Base:
    """Builds a base as the planner wants it."""
    plan = choose_plan(len(matrix), matrix.shape[1], kind, IndexMemory(1 << 30))
    return build_base(plan, matrix, target_recall, lambda _: None)


def mask_of(share: float, seed: int = 0) -> Mask:
    """Draws a mask that keeps about that share of the rows."""
    return np.random.default_rng(seed).random(ROWS) < share


def check_answers(base: Base, queries: Descriptors, count: int, keep: Mask | None, matrix: Matrix = MATRIX) -> None:
    """Checks what every answer of every base must be: full, kept, free of repeats, best first, with the true scores."""
    scores, rows = base.search(queries, count, keep)
    found = min(count, base.rows if keep is None else int(keep.sum()))

    assert scores.shape == rows.shape == (len(queries), count)
    assert (rows[:, :found] >= 0).all()
    assert (rows[:, found:] == -1).all()
    assert np.isneginf(scores[:, found:]).all()
    assert keep is None or keep[rows[:, :found]].all()
    assert all(len(set(row.tolist())) == found for row in rows[:, :found])
    ascending = [[(-score, row) for score, row in zip(*pair, strict=True)] for pair in zip(scores, rows, strict=True)]
    assert all(pairs[:found] == sorted(pairs[:found]) for pairs in ascending)
    true = np.take_along_axis(true_scores(matrix, queries), np.maximum(rows, 0), axis=1)
    assert scores[:, :found] == pytest.approx(true[:, :found], abs=1e-5)  # float32 sums in another order
