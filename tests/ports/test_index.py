"""What every index does: the fakes, and the real one on every kind of base that needs no GPU."""

from collections.abc import AsyncIterator
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pspsearch.domain import Found, IndexKind
from pspsearch.filters import Filter
from pspsearch.ports import Index
from tests.fakes.index import ALL, Gallery, LateIndex, MemoryIndex, holds, join, match_all, stored
from tests.indexes import open_index

SCORE_TOLERANCE = 1e-5
"""Both sum 16 float32 products of the same fp16 numbers, in another order."""

LEAST_RECALL = 0.95
"""The target of the bases; the queries here are like their rows."""


@pytest.fixture
def gallery() -> Gallery:
    """A gallery of 1,000 items."""
    gallery = Gallery()
    for number in range(1000):
        gallery.put(f"old-{number}", number=number)
    return gallery


@pytest.fixture(params=["memory", "late", *(kind for kind in IndexKind if kind is not IndexKind.AUTO)])
async def index(request: pytest.FixtureRequest, tmp_path: Path, gallery: Gallery) -> AsyncIterator[Index]:
    """An index over the gallery: most rows in the base, many newer ones, and dead ones among both."""
    if request.param == "memory":
        opened: Index = MemoryIndex(gallery.source)
    elif request.param == "late":
        opened = LateIndex(gallery.source, delay_s=0.001)
    else:
        opened = real = await open_index(tmp_path, gallery.source, IndexKind(request.param))
        real._segments.merge(lambda _: None)
    see(opened.apply(join(gallery.put(f"new-{number}", number=number) for number in range(500))))
    see(opened.apply(join(gallery.drop(f"old-{number}") for number in range(0, 200, 2))))
    see(opened.apply(join(gallery.put(f"old-{number}", number=number, moved=True) for number in range(1, 200, 2))))
    see(opened.apply(join(gallery.drop(f"new-{number}") for number in range(0, 100, 5))))
    see(opened.apply(join(gallery.label(f"new-{number}", number=-1) for number in range(200, 250))))
    yield opened
    await opened.close()


def see(applied: Future[None] | None) -> None:
    """Waits until searches see what was applied."""
    if applied is not None:
        applied.result(10)


def assert_right(found: list[Found], true: list[Found], index: Index, gallery: Gallery) -> None:
    """Asserts that rows exist, of different items, with their scores, best first: all the best, or nearly all."""
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
    """Asserts that each score is the cosine of the query and the row."""
    rows = gallery.by_sequence()
    for one, query in zip(found, queries, strict=True):
        cosines = [rows[sequence].descriptor.astype(np.float64) @ query for sequence in one.sequences.tolist()]
        assert np.allclose(one.scores, cosines, rtol=0, atol=SCORE_TOLERANCE)


FILTERS = [None, "number > 300", "number < 50", "number = 7", "number = 7000", "moved = true"]
"""They keep all, about half, 5 %, one or two, none, and 5 % that are all newer than the base."""


@pytest.mark.parametrize("text", FILTERS)
async def test_nearest_rows_are_found(index: Index, gallery: Gallery, text: str | None) -> None:
    """Few or many are found, under any filter, in every segment, and neither a deleted nor a replaced row."""
    where = Filter.parse(text) if text else None
    queries = gallery.queries(50)

    for count in (1, 10, 400):
        found = await index.search(queries, count, where)

        assert_right(found, gallery.nearest(queries, count, where), index, gallery)
        assert_scored(found, queries, gallery)
        assert all(holds(where, gallery.rows[id_]) for one in found for id_ in one.ids)


async def test_more_rows_than_there_are(index: Index, gallery: Gallery) -> None:
    """Everything that there is comes once."""
    (found,) = await index.search(gallery.queries(1), 5000)

    assert sorted(found.ids) == sorted(gallery.rows)


async def test_batch_equals_single(index: Index, gallery: Gallery) -> None:
    """An answer does not depend on queries made at the same time."""
    queries = gallery.queries(30)

    together = await index.search(queries, 5)
    singly = [(await index.search(query[None], 5))[0] for query in queries]

    for one, other in zip(together, singly, strict=True):
        assert one.ids == other.ids
        assert np.allclose(one.scores, other.scores, rtol=0, atol=SCORE_TOLERANCE)


async def test_of_equal_scores_the_lower_sequence_is_first(index: Index, gallery: Gallery) -> None:
    """Twins come in the order in which they were put in; if there is room for one, it is the first."""
    twin = gallery.draw()
    see(index.apply(join(gallery.put(f"twin-{number}", twin) for number in range(6))))

    (found,) = await index.search(twin.astype(np.float32)[None], 4)

    assert found.ids == ["twin-0", "twin-1", "twin-2", "twin-3"]


async def test_commit_is_seen_by_the_next_search(index: Index, gallery: Gallery) -> None:
    """A search sees it as soon as `apply` says so."""
    query = stored(np.ones(16))
    seen: list[list[str]] = []

    for change in (
        lambda: gallery.put("it", query, colour="red"),
        lambda: gallery.label("it", colour="blue"),
        lambda: gallery.put("it", stored(-np.ones(16)), colour="blue"),
        lambda: gallery.put("it", query, colour="red"),
        lambda: gallery.drop("it"),
    ):
        see(index.apply(change()))
        (found,) = await index.search(query.astype(np.float32)[None], 1, Filter.parse('colour = "red"'))
        seen.append([id_ for id_, score in zip(found.ids, found.scores, strict=True) if score > 0.9])

    assert seen == [["it"], [], [], ["it"], []]


@pytest.mark.parametrize("text", ["*", "number < 50", "number = 7000"])
async def test_match_is_every_row_by_key(index: Index, gallery: Gallery, text: str) -> None:
    """The keys of a replaced item stay, with its new row; the count agrees."""
    where = Filter.parse(text)
    rows = sorted((row for row in gallery.rows.values() if holds(where, row)), key=lambda row: row.key)

    matched = await match_all(index, where)

    assert matched.keys.tolist() == [row.key for row in rows]
    assert matched.sequences.tolist() == [row.sequence for row in rows]
    assert await index.count(where) == len(rows)
    assert await index.count() == len(gallery.rows)


@pytest.mark.parametrize("page_size", [1, 49, 50, 1000])
async def test_pages_are_of_one_moment(index: Index, gallery: Gallery, page_size: int) -> None:
    """Writes meanwhile do not matter; pages begin after a key, and all but the last are full."""
    where = Filter.parse("number < 50")
    before = await match_all(index, where)
    start = len(before.keys) // 3

    pages = index.match(where, page_size, int(before.keys[start - 1]))
    read = [await anext(pages)]
    see(index.apply(gallery.put("later", number=1)))
    see(index.apply(gallery.drop(next(id_ for id_, row in gallery.rows.items() if row.key == before.keys[-1]))))
    read += [page async for page in pages]

    assert [key for page in read for key in page.keys.tolist()] == before.keys[start:].tolist()
    assert [one for page in read for one in page.sequences.tolist()] == before.sequences[start:].tolist()
    assert all(len(page.keys) == page_size for page in read[:-1])
    assert len(read[-1].keys) > 0


async def test_no_match_is_one_empty_page(index: Index, gallery: Gallery) -> None:
    """A caller can always read one page."""
    last_key = max(row.key for row in gallery.rows.values())

    for pages in (index.match(Filter.parse("number = 7000"), 10), index.match(ALL, 10, last_key)):
        assert [(len(page.keys), len(page.sequences)) async for page in pages] == [(0, 0)]


@pytest.mark.parametrize("count", [1, 200, 5000])
async def test_sample_is_of_all_rows(index: Index, gallery: Gallery, count: int) -> None:
    """They are different existing rows, by key, not only old or new ones."""
    sample = await index.sample(count)

    rows = gallery.by_sequence()
    assert len(sample.keys) == min(count, len(rows))
    assert (np.diff(sample.keys) > 0).all()
    assert [rows[sequence].key for sequence in sample.sequences.tolist()] == sample.keys.tolist()
    if count > 1:  # a third of them are; these bounds are seven standard deviations of 200 away
        new = sum(rows[sequence].id.startswith("new") for sequence in sample.sequences.tolist())
        assert 0.1 < new / len(sample.keys) < 0.7


async def test_rows_that_are_gone_are_not_contained(index: Index, gallery: Gallery) -> None:
    """Deleted and replaced rows are not, nor are sequences that never existed."""
    kept, dropped, replaced = (gallery.rows[f"new-{number}"].sequence for number in (101, 102, 103))
    see(index.apply(gallery.drop("new-102")))
    see(index.apply(gallery.label("new-103", number=-2)))
    added = gallery.rows["new-103"].sequence

    contained = await index.contains(np.array([added, kept, dropped, replaced, 0, added + 1], np.int64))

    assert contained.dtype == np.bool_
    assert contained.tolist() == [True, True, False, False, False, False]


async def test_descriptors_of_rows_that_are_gone_since(index: Index, gallery: Gallery) -> None:
    """A caller that folds near-duplicates asks for them after its search."""
    (found,) = await index.search(gallery.queries(1), 5)
    rows = [gallery.rows[id_] for id_ in found.ids]
    see(index.apply(join(gallery.drop(id_) for id_ in found.ids)))

    descriptors = await index.descriptors(found.sequences.tolist())

    assert descriptors.dtype == np.float32
    assert np.array_equal(descriptors, np.array([row.descriptor for row in rows], np.float32))


async def test_state_counts(index: Index, gallery: Gallery) -> None:
    """It tells how many rows can be found, and up to which change."""
    state = index.state

    assert state.rows == len(gallery.rows)
    assert state.sequence == max(row.sequence for row in gallery.rows.values())


async def test_no_rows(tmp_path: Path) -> None:
    """A new collection answers with nothing, and then with what is put into it."""
    gallery = Gallery()
    for index in (MemoryIndex(gallery.source), await open_index(tmp_path, gallery.source, IndexKind.AUTO)):
        assert (await index.search(gallery.queries(1), 10))[0].ids == []
        assert len((await match_all(index)).keys) == len((await index.sample(10)).keys) == await index.count() == 0
        assert (await index.contains(np.array([1], np.int64))).tolist() == [False]
        assert (await index.descriptors([])).size == 0

        see(index.apply(gallery.put("first")))

        assert (await index.search(gallery.queries(1), 10))[0].ids == ["first"]
        see(index.apply(gallery.drop("first")))
        await index.close()
