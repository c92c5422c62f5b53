"""Descriptors that lie in clusters, as those of real images do."""

import numpy as np

from pspsearch.domain import Descriptors
from pspsearch.index.arrays import Mask, Matrix, RowNumbers


def clustered_descriptors(rows: int, dimension: int, seed: int, clusters: int = 200) -> Descriptors:
    """Unit rows around the same centres for every seed, each centre's spread about that of its distance to others."""
    centres = np.random.default_rng(0).standard_normal((clusters, dimension))
    random = np.random.default_rng(seed)
    vectors = centres[random.integers(0, clusters, rows)] + random.standard_normal((rows, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def true_scores(matrix: Matrix, queries: Descriptors) -> Descriptors:
    """Of every stored descriptor, queries x rows."""
    return queries @ matrix.astype(np.float32).T


def true_rows(matrix: Matrix, queries: Descriptors, count: int, keep: Mask | None = None) -> list[RowNumbers]:
    """For each query the `count` best kept rows by brute force, of equal scores the lower one first."""
    kept = np.arange(len(matrix)) if keep is None else np.flatnonzero(keep)
    return [kept[np.argsort(-scores[kept], kind="stable")[:count]] for scores in true_scores(matrix, queries)]


def recall(rows: RowNumbers, true: list[RowNumbers]) -> float:
    """The share of the true rows that were found."""
    return float(np.mean([np.isin(wanted, found).mean() for wanted, found in zip(true, rows, strict=True)]))
