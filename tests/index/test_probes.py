"""What live searches find is compared with the truth now and then."""

import math
from pathlib import Path

import numpy as np
import pytest

from pspsearch.domain import Found, IndexKind
from pspsearch.index.probes import PAUSE_S, WORTH, Probes
from pspsearch.index.segments import Segments
from pspsearch.index.table.table import Table
from pspsearch.index.view import View
from tests.fakes.index import DIMENSION, Gallery, join
from tests.indexes import builder


@pytest.fixture
def view(tmp_path: Path) -> View:
    """Two thousand rows, some of them dead, on an approximate base."""
    gallery = Gallery()
    empty = Table.empty(tmp_path / "matrix", DIMENSION)
    first = View(empty, np.zeros(0, np.bool_), 0, builder(IndexKind.IVF).build_empty(), 0)
    segments = Segments(first, builder(IndexKind.IVF))
    segments.apply(join(gallery.put(f"item-{number}") for number in range(2_000)))
    segments.merge(lambda _: None)
    segments.apply(join(gallery.drop(f"item-{number}") for number in range(300)))
    return segments.view


def without(found: Found, lost: int) -> Found:
    """Replaces this many of the nearest rows with rows that are not among the nearest."""
    return Found(np.concatenate([np.arange(-lost, 0), found.sequences[lost:]]), found.ids, found.scores)


@pytest.mark.parametrize("lost", [0, 1, 5])
def test_share_of_what_is_found_is_told(view: View, lost: int) -> None:
    """It is the share of the ten nearest living rows."""
    queries, probes = Gallery().queries(1), Probes()
    mask = view.mask(None)
    scores = view.table.matrix.first(view.rows).astype(np.float32) @ queries[0]
    assert mask is not None
    scores[~mask] = -1
    best = np.argsort(-scores)[:10]
    true = Found(view.table.sequences(view.rows)[best], view.table.ids(best), scores[best])
    assert math.isnan(probes.recall)

    probes.offer(view, mask, queries, [without(true, lost)])
    probes.repeat(100.0)

    assert probes.recall == pytest.approx((10 - lost) / 10)


def test_searches_that_come_too_soon_are_let_go(view: View) -> None:
    """One waits at a time, and the next is taken after half a minute, or a hundred times what the last one took."""
    queries, probes = Gallery().queries(1), Probes()
    found = view.search(queries, 10, view.mask(None))
    assert not probes.is_due(100.0)

    for lost in (0, 10):
        probes.offer(view, view.mask(None), queries, [without(found[0], lost)])
    assert probes.is_due(100.0)
    probes.repeat(100.0)
    assert not probes.is_due(200.0)
    probes.offer(view, view.mask(None), queries, found)

    assert not probes.is_due(99.9 + PAUSE_S)
    assert probes.is_due(100.0 + PAUSE_S + WORTH)
    assert probes.recall > 0.5


def test_exact_answers_are_not_repeated(view: View) -> None:
    """Nor is an answer without rows."""
    queries, probes = Gallery().queries(1), Probes()
    exact = View(view.table, view.alive, view.living, builder(IndexKind.EXACT).build_empty(), view.sequence)

    probes.offer(exact, exact.mask(None), queries, exact.search(queries, 10, exact.mask(None)))
    nobody = Found(np.zeros(0, np.int64), [], np.zeros(0, np.float32))
    probes.offer(view, view.mask(None), queries, [nobody])

    assert not probes.is_due(1e9)
