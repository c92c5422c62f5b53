"""How well queries find the pictures of their own class in a gallery."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Descriptors = NDArray[np.float32]
"""Unit rows [count, dimension]."""

Labels = NDArray[np.int64]
"""One class per row."""

Values = NDArray[np.float64]
"""One number per query."""

BLOCK_QUERIES = 256
"""How many queries are scored at a time; with a gallery of 100,000, that takes 100 MB."""

RECALL_LEVELS = np.linspace(0, 1, 101)


@dataclass(frozen=True, slots=True)
class RightRanks:
    """The ranks of each query's right answers in the whole gallery, from which all measures follow.

    Of equal scores, wrong answers rank first, so a descriptor that cannot tell pictures apart gains nothing.
    """

    queries: Labels
    """The row number of each query that has a right answer; the others are not measured."""
    ranks: Sequence[NDArray[np.int64]]
    """For each of these queries, the ranks of its right answers, ascending from 1."""
    left_out: int
    """How many queries have no right answer."""

    def recall_at(self, count: int) -> Values:
        """1 for each query with a right answer among its `count` nearest, else 0."""
        return np.array([ranks[0] <= count for ranks in self.ranks], np.float64)

    def precision_at(self, count: int) -> Values:
        """The share of the `count` nearest that is right."""
        return np.array([np.count_nonzero(ranks <= count) / count for ranks in self.ranks])

    def average_precision(self) -> Values:
        """The mean, over the right answers, of the precision down to each of them."""
        return np.array([(np.arange(1, len(ranks) + 1) / ranks).mean() for ranks in self.ranks])

    def r_precision(self) -> Values:
        """The precision among as many hits as there are right answers."""
        return np.array([np.count_nonzero(ranks <= len(ranks)) / len(ranks) for ranks in self.ranks])

    def precision_by_recall(self) -> Values:
        """For each of RECALL_LEVELS, the best precision at that recall or higher, averaged over the queries."""
        return np.mean([_interpolate(ranks) for ranks in self.ranks], axis=0)


def rank(queries: Descriptors, query_labels: Labels, gallery: Descriptors, gallery_labels: Labels) -> RightRanks:
    """Ranks the whole gallery for every query, by cosine."""
    return _rank(queries, query_labels, gallery, gallery_labels, leave_one_out=False)


def rank_leaving_one_out(descriptors: Descriptors, labels: Labels) -> RightRanks:
    """Ranks all other rows for every row."""
    return _rank(descriptors, labels, descriptors, labels, leave_one_out=True)


def nearest(queries: Descriptors, gallery: Descriptors, count: int, *, leave_one_out: bool = False) -> Labels:
    """For each query, the row numbers of the `count` nearest, best first; of equal scores, the lower row first."""
    scores = queries @ gallery.T
    if leave_one_out:
        np.fill_diagonal(scores, -np.inf)
    return np.argsort(-scores, axis=1, kind="stable")[:, :count].astype(np.int64)


def _rank(
    queries: Descriptors, query_labels: Labels, gallery: Descriptors, gallery_labels: Labels, *, leave_one_out: bool
) -> RightRanks:
    places: list[int] = []
    ranks: list[NDArray[np.int64]] = []
    for start in range(0, len(queries), BLOCK_QUERIES):
        block = queries[start : start + BLOCK_QUERIES] @ gallery.T
        for place, scores in enumerate(block, start):
            right = gallery_labels == query_labels[place]
            others = ~right
            if leave_one_out:
                right[place] = False
            if right.any():
                places.append(place)
                ranks.append(_rank_right(scores[right], scores[others]))
    return RightRanks(np.array(places, np.int64), ranks, len(queries) - len(places))


def _rank_right(right: Descriptors, wrong: Descriptors) -> NDArray[np.int64]:
    best_first = -np.sort(-right)
    wrong_before = len(wrong) - np.searchsorted(np.sort(wrong), best_first, side="left")
    return np.arange(1, len(right) + 1) + wrong_before


def _interpolate(ranks: NDArray[np.int64]) -> Values:
    numbers = np.arange(1, len(ranks) + 1)
    best_from_here = np.maximum.accumulate((numbers / ranks)[::-1])[::-1]
    # The first right answer at which the recall reaches the level; the margin is for levels like 0.29 * 100.
    reached = np.ceil(RECALL_LEVELS * len(ranks) - 1e-9).astype(np.int64)
    return best_from_here[np.maximum(reached, 1) - 1]
