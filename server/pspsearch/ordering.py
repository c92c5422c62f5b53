"""Orders what was found by more than its scores: wider queries, shared neighbours, and unlike hits.

Everything here is plain arithmetic over unit descriptors, so that searches and evaluations share it.
"""

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]
"""Unit descriptors, one a row."""

NEIGHBOURS = 20
"""How many nearest rows are a row's neighbours when shared ones are counted."""

CLOSEST = 6
"""A row's neighbours are those that so many of its nearest rows have on average; it is the first of them."""

BY_SCORE = 0.3
"""How much of the order the score decides when shared neighbours decide the rest."""


def expand(query: Rows, found: Rows, scores: NDArray[np.float32]) -> Rows:
    """Returns the query moved towards the rows that it found: their sum with it, each times its score, at unit length.

    Rows of negative scores do not count.
    """
    moved = query + np.clip(scores, 0, None) @ found
    return (moved / np.linalg.norm(moved)).astype(np.float32)


def by_shared_neighbours(query: Rows, found: Rows) -> NDArray[np.int64]:
    """Returns the order of the rows, by how many neighbours each shares with the query, and by its score.

    Neighbours are looked for among the found rows, and count only if each is one of the other's (k-reciprocal
    re-ranking, Zhong et al. 2017). It takes the square of the number of rows.
    """
    rows = np.vstack([query, found])
    distances = np.clip(2 - 2 * (rows @ rows.T), 0, None)
    nearest = np.argsort(distances, axis=1, kind="stable")
    belongs = _with_neighbours_of_neighbours(_mutual(nearest, NEIGHBOURS), _mutual(nearest, NEIGHBOURS // 2))
    weights = np.where(belongs, np.exp(-distances), 0)
    weights /= weights.sum(axis=1, keepdims=True)
    smooth = weights[nearest[:, :CLOSEST]].mean(axis=1)
    shared = np.minimum(smooth[0], smooth).sum(axis=1)
    unlike = 1 - shared / (2 - shared)
    farthest = max(float(distances[0].max()), 1e-9)
    return np.argsort((BY_SCORE * distances[0] / farthest + (1 - BY_SCORE) * unlike)[1:], kind="stable")


def _mutual(nearest: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    """Which rows are among each other's `count` nearest; each row belongs to itself, however many copies it has."""
    among = np.zeros(nearest.shape, np.bool_)
    np.put_along_axis(among, nearest[:, : count + 1], True, axis=1)
    mutual = among & among.T
    np.fill_diagonal(mutual, True)
    return mutual


def _with_neighbours_of_neighbours(mutual: NDArray[np.bool_], close: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Adds the close neighbours of each neighbour, if two thirds of them are neighbours already."""
    known = mutual.astype(np.float32) @ close.T.astype(np.float32)  # how many of j's close ones are neighbours of i
    joins = mutual & (known > 2 / 3 * close.sum(axis=1))
    return mutual | (joins.astype(np.float32) @ close.astype(np.float32) > 0)


def by_diversity(scores: NDArray[np.float32], found: Rows, count: int, diversity: float) -> list[int]:
    """Returns the places of `count` rows, each the best by its score and by how unlike it is to those before it.

    The scores may be any worth of the rows. `diversity` is the weight of being unlike, from 0 to 1 (maximal marginal
    relevance, Carbonell and Goldstein 1998).
    """
    worth = (1 - diversity) * scores.astype(np.float64)
    likest = np.full(len(scores), -1.0)
    chosen: list[int] = []
    while len(chosen) < min(count, len(scores)):
        left = worth - diversity * likest if chosen else worth.copy()
        left[chosen] = -np.inf
        best = int(np.argmax(left))
        chosen.append(best)
        np.maximum(likest, found @ found[best], out=likest)
    return chosen
