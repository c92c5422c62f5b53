"""Makes descriptors that lie in clusters, as those of real images do."""

import numpy as np

from pspsearch.domain import Descriptors
from pspsearch.index.arrays import Mask, Matrix, RowNumbers


def clustered_descriptors(rows: int, dimension: int, seed: int, clusters: int = 200) -> Descriptors:
    """Returns unit rows around the same centres for every seed.

    A centre's rows lie about as far from it as the other centres do.
    """
    centres = np.random.default_rng(0).standard_normal((clusters, dimension))
    random = np.random.default_rng(seed)
    vectors = centres[random.integers(0, clusters, rows)] + random.standard_normal((rows, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def true_scores(matrix: Matrix, queries: Descriptors) -> Descriptors:
    """Returns the score of every stored descriptor, queries x rows."""
    return queries @ matrix.astype(np.float32).T


def true_rows(matrix: Matrix, queries: Descriptors, count: int, keep: Mask | None = None) -> list[RowNumbers]:
    """Returns the `count` best kept rows of each query by brute force; ties go to the lower row."""
    kept = np.arange(len(matrix)) if keep is None else np.flatnonzero(keep)
    return [kept[np.argsort(-scores[kept], kind="stable")[:count]] for scores in true_scores(matrix, queries)]


def recall(rows: RowNumbers, true: list[RowNumbers]) -> float:
    """Returns the share of the true rows that was found."""
    return float(np.mean([np.isin(wanted, found).mean() for wanted, found in zip(true, rows, strict=True)]))
