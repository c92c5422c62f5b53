"""What do wider queries, shared neighbours and diversity gain, and what do they cost?

python build/recipes/orders.py DESCRIBER QUERIES GALLERY

Prints R@1, mAP and how many classes are among the ten first, with 95 % intervals, and the time of the ordering alone.
"""

import time
from argparse import ArgumentParser
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pspsearch.ordering import by_diversity, by_shared_neighbours, expand
from pspsearch_build.data.pictures import read_pictures
from pspsearch_build.evaluation.bootstrap import Estimate, estimate, estimate_difference
from pspsearch_build.evaluation.measuring import Task
from pspsearch_build.evaluation.retrieval import Descriptors, RightRanks
from pspsearch_build.evaluation.sources import open_describer

Order = NDArray[np.int64]
Rank = Callable[[Descriptors, Descriptors], Order]
"""From a query and the gallery to the places of all of it, best first."""

POOL = 50
"""Ten diverse hits are chosen among so many."""


def by_score(query: Descriptors, gallery: Descriptors) -> Order:
    """As a plain search does."""
    return np.argsort(-(gallery @ query), kind="stable")


def expanded(count: int) -> Rank:
    """As a search with `expand`."""

    def rank(query: Descriptors, gallery: Descriptors) -> Order:
        first = gallery[by_score(query, gallery)[:count]]
        return by_score(expand(query, first, first @ query), gallery)

    return rank


def reranked(count: int) -> Rank:
    """As a search with `rerank`."""

    def rank(query: Descriptors, gallery: Descriptors) -> Order:
        order = by_score(query, gallery)
        first = order[:count]
        return np.concatenate([first[by_shared_neighbours(query, gallery[first])], order[count:]])

    return rank


def both(widened: int, ordered: int) -> Rank:
    """As a search with both; the neighbours are those of the wider query."""

    def rank(query: Descriptors, gallery: Descriptors) -> Order:
        first = gallery[by_score(query, gallery)[:widened]]
        return reranked(ordered)(expand(query, first, first @ query), gallery)

    return rank


def diverse(diversity: float) -> Rank:
    """As a search with `diversity`; behind its ten hits are the others as they were."""

    def rank(query: Descriptors, gallery: Descriptors) -> Order:
        order = by_score(query, gallery)
        first = order[:POOL]
        chosen = first[by_diversity(gallery[first] @ query, gallery[first], 10, diversity)]
        return np.concatenate([chosen, order[~np.isin(order, chosen)]])

    return rank


RANKS: dict[str, Rank] = {
    "by score": by_score,
    **{f"expand={count}": expanded(count) for count in (1, 3, 5, 10)},
    **{f"rerank={count}": reranked(count) for count in (50, 100, 300)},
    "expand=5 rerank=100": both(5, 100),
    **{f"diversity={share}": diverse(share) for share in (0.3, 0.5, 0.7)},
}


def main() -> None:
    """Prints a row for each order."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("describer")
    parser.add_argument("queries")
    parser.add_argument("gallery")
    given = parser.parse_args()
    task = Task(read_pictures(given.queries), gallery := read_pictures(given.gallery))
    describer = open_describer(given.describer)
    rows = describer.describe([picture.path for picture in gallery.pictures], lambda _: None)
    asked = describer.describe([picture.path for picture in task.queries.pictures], lambda _: None)
    classes, wanted = task.number(gallery), task.number(task.queries)
    answerable = np.flatnonzero(np.isin(wanted, classes))
    plain: dict[str, NDArray[np.float64]] = {}
    for name, rank in RANKS.items():
        began = time.thread_time()
        found = [classes[rank(asked[number], rows)] for number in answerable]
        milliseconds = 1000 * (time.thread_time() - began) / len(answerable)
        rights = [np.flatnonzero(order == wanted[number]) + 1 for number, order in zip(answerable, found, strict=True)]
        ranks = RightRanks(answerable, rights, len(wanted) - len(answerable))
        measured = {
            "R@1": ranks.recall_at(1),
            "mAP": ranks.average_precision(),
            "classes@10": np.array([len(set(order[:10].tolist())) for order in found], np.float64),
        }
        plain = plain or measured
        words = "  ".join(f"{what} {_told(values, plain[what])}" for what, values in measured.items())
        print(f"{name:20}  {words}  {milliseconds:.2f} ms")


def _told(values: NDArray[np.float64], plain: NDArray[np.float64]) -> str:
    gain: Estimate = estimate_difference(values, plain)
    return f"{estimate(values)} ({gain:+})"


if __name__ == "__main__":
    main()
