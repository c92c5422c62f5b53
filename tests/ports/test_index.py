"""What every index does: the fake, and the real one on every kind of base there is without a GPU."""

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pspsearch.domain import Found, IndexKind
from pspsearch.filters import Filter
from pspsearch.ports import Index
from tests.fakes.index import Gallery, MemoryIndex, holds, join, stored
from tests.indexes import open_index

SCORE_TOLERANCE = 1e-5
"""Both sum 16 float32 products of the same fp16 numbers, in another order."""

LEAST_RECALL = 0.95
"""What the bases are tuned for; the queries here are like their rows."""


@pytest.fixture
def gallery() -> Gallery:
    """1,000 items."""
    gallery = Gallery()
    for number in range(1000):
        gallery.put(f"old-{number}", number=number)
    return gallery


@pytest.fixture(params=["memory", *(kind for kind in IndexKind if kind is not IndexKind.AUTO)])
async def index(request: pytest.FixtureRequest, tmp_path: Path, gallery: Gallery) -> AsyncIterator[Index]:
    """Over the gallery: most rows in the base, many newer ones, and dead ones in both."""
    if request.param == "memory":
        opened: Index = MemoryIndex(gallery.source)
    else:
        opened = real = await open_index(tmp_path, gallery.source, IndexKind(request.param))
        real._segments.merge(lambda _: None)
    opened.apply(join(gallery.put(f"new-{number}", number=number) for number in range(500)))
    opened.apply(join(gallery.drop(f"old-{number}") for number in range(0, 200, 2)))
    opened.apply(join(gallery.put(f"old-{number}", number=number, moved=True) for number in range(1, 200, 2)))
    opened.apply(join(gallery.drop(f"new-{number}") for number in range(0, 100, 5)))
    opened.apply(join(gallery.label(f"new-{number}", number=-1) for number in range(200, 250)))
    yield opened
    await opened.close()


def assert_right(found: list[Found], true: list[Found], index: Index, gallery: Gallery) -> None:
    """Rows that are there, of different items, with their scores, best first: all the best, or nearly all."""
    rows = gallery.by_sequence()
    hits = expected = 0
    for one, truth in zip(found, true, strict=True):
        assert [rows[sequence].id for sequence in one.sequences.tolist()] == one.ids
        assert len(set(one.ids)) == len(one.ids) == len(truth.ids)
        assert (np.diff(one.scores) <= 0).all()
        hits += len(set(one.ids) & set(truth.ids))
        expected += len(truth.ids)
        if index.state.plan == "exact":
            assert np.allclose(one.scores, truth.scores, rtol=0, atol=SCORE_TOLERANCE)
    assert hits >= expected * LEAST_RECALL


def assert_scored(found: list[Found], queries: NDArray[np.float32], gallery: Gallery) -> None:
    """Each score is the cosine of the query and the row."""
    rows = gallery.by_sequence()
    for one, query in zip(found, queries, strict=True):
        cosines = [rows[sequence].descriptor.astype(np.float64) @ query for sequence in one.sequences.tolist()]
        assert np.allclose(one.scores, cosines, rtol=0, atol=SCORE_TOLERANCE)


FILTERS = [None, "number > 300", "number < 50", "number = 7", "number = 7000", "moved = true"]
"""They keep all, about half, 5 %, one or two, none, and 5 % that are all newer than the base."""


@pytest.mark.parametrize("text", FILTERS)
async def test_nearest_rows_are_found(index: Index, gallery: Gallery, text: str | None) -> None:
    """Few and many, under any filter, in every segment; neither a deleted row nor a replaced one."""
    keep = Filter.parse(text) if text else None
    queries = gallery.queries(50)

    for count in (1, 10, 400):
        found = await index.search(queries, count, keep)

        assert_right(found, gallery.nearest(queries, count, keep), index, gallery)
        assert_scored(found, queries, gallery)
        assert all(holds(keep, gallery.rows[id_]) for one in found for id_ in one.ids)


async def test_more_rows_than_there_are(index: Index, gallery: Gallery) -> None:
    """Everything that there is, once."""
    (found,) = await index.search(gallery.queries(1), 5000)

    assert sorted(found.ids) == sorted(gallery.rows)


async def test_batch_equals_single(index: Index, gallery: Gallery) -> None:
    """An answer does not depend on what is asked at the same time."""
    queries = gallery.queries(30)

    together = await index.search(queries, 5)
    singly = [(await index.search(query[None], 5))[0] for query in queries]

    for one, other in zip(together, singly, strict=True):
        assert one.ids == other.ids
        assert np.allclose(one.scores, other.scores, rtol=0, atol=SCORE_TOLERANCE)


async def test_of_equal_scores_the_lower_sequence_is_first(index: Index, gallery: Gallery) -> None:
    """Twins come in the order in which they were put in, and only the first of them where there is no room."""
    twin = gallery.draw()
    index.apply(join(gallery.put(f"twin-{number}", twin) for number in range(6)))

    (found,) = await index.search(twin.astype(np.float32)[None], 4)

    assert found.ids == ["twin-0", "twin-1", "twin-2", "twin-3"]


async def test_commit_is_seen_by_the_next_search(index: Index, gallery: Gallery) -> None:
    """As soon as `apply` has returned."""
    query = stored(np.ones(16))
    seen: list[list[str]] = []

    for change in (
        lambda: gallery.put("it", query, colour="red"),
        lambda: gallery.label("it", colour="blue"),
        lambda: gallery.put("it", stored(-np.ones(16)), colour="blue"),
        lambda: gallery.put("it", query, colour="red"),
        lambda: gallery.drop("it"),
    ):
        index.apply(change())
        (found,) = await index.search(query.astype(np.float32)[None], 1, Filter.parse('colour = "red"'))
        seen.append([id_ for id_, score in zip(found.ids, found.scores, strict=True) if score > 0.9])

    assert seen == [["it"], [], [], ["it"], []]


async def test_match_is_every_row_by_key(index: Index, gallery: Gallery) -> None:
    """The keys of a replaced item stay, and its row is the new one."""
    everything = await index.match()
    few = await index.match(Filter.parse("number < 50"))
    none = await index.match(Filter.parse("number = 7000"))

    rows = sorted(gallery.rows.values(), key=lambda row: row.key)
    small = [row for row in rows if holds(Filter.parse("number < 50"), row)]
    assert everything.keys.tolist() == [row.key for row in rows]
    assert everything.sequences.tolist() == [row.sequence for row in rows]
    assert few.keys.tolist() == [row.key for row in small]
    assert few.sequences.tolist() == [row.sequence for row in small]
    assert len(none.keys) == len(none.sequences) == 0


async def test_descriptors_of_rows_that_are_gone_since(index: Index, gallery: Gallery) -> None:
    """A caller that folds near-duplicates asks for them after its search."""
    (found,) = await index.search(gallery.queries(1), 5)
    rows = [gallery.rows[id_] for id_ in found.ids]
    index.apply(join(gallery.drop(id_) for id_ in found.ids))

    descriptors = await index.descriptors(found.sequences.tolist())

    assert descriptors.dtype == np.float32
    assert np.array_equal(descriptors, np.array([row.descriptor for row in rows], np.float32))


async def test_state_counts(index: Index, gallery: Gallery) -> None:
    """What can be found, and up to which change."""
    state = index.state

    assert state.rows == len(gallery.rows)
    assert state.sequence == max(row.sequence for row in gallery.rows.values())


async def test_no_rows(tmp_path: Path) -> None:
    """A new collection answers with nothing, and with what is put into it."""
    gallery = Gallery()
    for index in (MemoryIndex(gallery.source), await open_index(tmp_path, gallery.source, IndexKind.AUTO)):
        assert (await index.search(gallery.queries(1), 10))[0].ids == []
        assert len((await index.match()).keys) == 0
        assert (await index.descriptors([])).size == 0

        index.apply(gallery.put("first"))

        assert (await index.search(gallery.queries(1), 10))[0].ids == ["first"]
        index.apply(gallery.drop("first"))
        await index.close()
