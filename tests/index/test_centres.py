"""The nearest lists of a query, by a graph or by all centres."""

import numpy as np
import pytest

from pspsearch.index.candidates.centres import Centres
from tests.clustered import clustered_descriptors, true_rows, true_scores

STORED = clustered_descriptors(2_048, 32, seed=1).astype(np.float16)
QUERIES = clustered_descriptors(200, 32, seed=2)


@pytest.mark.parametrize(("count", "least"), [(1, 0.85), (4, 0.85), (16, 0.85), (17, 1), (500, 1), (2_048, 1)])
def test_nearest_lists_are_found(count: int, least: float) -> None:
    """A few are found by a graph, which misses some; many by comparing all, which misses none."""
    scores, lists = Centres(STORED.astype(np.float32), graph=True).nearest(QUERIES, count)
    true = true_rows(STORED, QUERIES, count)
    found = np.mean([np.isin(wanted, of_query).mean() for wanted, of_query in zip(true, lists, strict=True)])

    assert found >= least
    assert scores == pytest.approx(np.take_along_axis(true_scores(STORED, QUERIES), lists, axis=1), abs=1e-5)


def test_one_query_finds_what_it_finds_among_many() -> None:
    """What is searched together with a query must not change its answer."""
    centres = Centres(STORED.astype(np.float32), graph=True)
    scores, lists = centres.nearest(QUERIES, 4)

    for number in range(len(QUERIES)):
        alone_scores, alone_lists = centres.nearest(QUERIES[number : number + 1], 4)
        assert (alone_lists[0] == lists[number]).all()
        assert (alone_scores[0] == scores[number]).all()


def test_a_graph_that_misses_lists_is_not_trusted() -> None:
    """Links between copies lead nowhere else. Comparing all finds the best list all the same."""
    few = clustered_descriptors(40, 32, seed=3)
    near = STORED[:500].astype(np.float32) + 0.05 * clustered_descriptors(500, 32, seed=5)
    copies = np.repeat(few, 100, axis=0)

    assert Centres(STORED.astype(np.float32), graph=True).is_sure(near)
    assert not Centres(copies, graph=True).is_sure(clustered_descriptors(500, 32, seed=4))
    assert Centres(copies, graph=False).is_sure(QUERIES)
