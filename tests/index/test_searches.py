"""Which searches are made together, and which are not made at all."""

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from numpy.typing import NDArray

from pspsearch.domain import Descriptors, Found, IndexKind
from pspsearch.errors import Overloaded
from pspsearch.filters import Filter
from pspsearch.index import searches as module
from pspsearch.index.arrays import Mask, Matrix, RowNumbers
from pspsearch.index.candidates.finder import Advance
from pspsearch.index.masks import MAX_WAITING
from pspsearch.index.probes import Probes
from pspsearch.index.searches import MOST_QUERIES, QUICK_COUNT, Searches
from pspsearch.index.table.table import Table
from pspsearch.index.view import View
from tests.fakes.index import DIMENSION, Gallery, holds
from tests.indexes import builder

PATIENCE_S = 10.0


class GatedBase:
    """A Base that answers one call after another, each when it is let through, and remembers what it was asked."""

    plan = "gated"
    measured_recall = 1.0
    size_bytes = 0

    def __init__(self, matrix: Matrix) -> None:
        self.rows = len(matrix)
        self.calls: list[tuple[int, int]] = []
        """How many queries each call had, and how many rows it wanted."""
        self.made_by: list[str] = []
        """The thread of each call."""
        self.entered = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)
        self._base = builder(IndexKind.EXACT).build(matrix, lambda _: None)

    def search(
        self, queries: Descriptors, count: int, keep: Mask | None = None
    ) -> tuple[NDArray[np.float32], RowNumbers]:
        """Answers once it is let through."""
        self.calls.append((len(queries), count))
        self.made_by.append(threading.current_thread().name)
        self.entered.release()
        self.gate.acquire()
        return self._base.search(queries, count, keep)

    def fits(self, rows: int) -> bool:
        """Never called here."""
        raise AssertionError

    def extended(self, matrix: Matrix, advance: Advance) -> Self:
        """Never called here."""
        raise AssertionError

    def write(self, path: Path) -> None:
        """Never called here."""
        raise AssertionError


@pytest.fixture
def gallery() -> Gallery:
    """Fifty items."""
    gallery = Gallery()
    for number in range(50):
        gallery.put(f"item-{number}", number=number)
    return gallery


@pytest.fixture
def base(view: View) -> GatedBase:
    """The view's base."""
    assert isinstance(view.base, GatedBase)
    return view.base


@pytest.fixture
def view(tmp_path: Path, gallery: Gallery) -> View:
    """A view of all items."""
    table = Table.empty(tmp_path / "matrix", DIMENSION)
    empty = View(table, np.zeros(0, np.bool_), 0, builder(IndexKind.EXACT).build_empty(), 0)
    full = empty.after(list(gallery.source.after(0)))
    return replace(full, base=GatedBase(table.matrix.first(full.rows)))


@pytest.fixture
async def searches(view: View, base: GatedBase) -> AsyncIterator[Searches]:
    """Searches over the view, after one that occupies the thread."""
    searches = Searches(lambda: view, Probes())
    first = asyncio.ensure_future(searches.search(np.zeros((1, DIMENSION), np.float32), 10, None))
    await asyncio.to_thread(base.entered.acquire)
    base.calls.clear()
    yield searches
    base.gate.release(1000)
    await searches.close()
    assert first.done()


async def wait_together(
    searches: Searches, base: GatedBase, *asked: tuple[Descriptors, int, Filter | None]
) -> list[list[Found] | BaseException]:
    """Returns what becomes of searches that all wait while the thread is occupied."""
    tasks = [asyncio.ensure_future(searches.search(*one)) for one in asked]
    await asyncio.sleep(0)  # now all of them are in the queue
    base.gate.release(1000)
    return await asyncio.gather(*tasks, return_exceptions=True)


async def test_what_waits_is_searched_together(searches: Searches, base: GatedBase, gallery: Gallery) -> None:
    """One call serves those with the same filter and similar counts, and every caller gets its own answer."""
    keep = Filter.parse("number < 25")
    asked = [(gallery.queries(2), 10 + number, None) for number in range(5)]
    asked += [(gallery.queries(1), 10, keep), (gallery.queries(3), 12, Filter.parse("number < 25"))]

    answers = await wait_together(searches, base, *asked)

    assert base.calls == [(10, 14), (4, 12)]
    for (queries, count, filter_), answer in zip(asked, answers, strict=True):
        assert isinstance(answer, list)
        assert [found.ids for found in answer] == [one.ids for one in gallery.nearest(queries, count, filter_)]
        assert all(len(found.ids) == len(found.scores) == len(found.sequences) == count for found in answer)
        assert all(holds(filter_, gallery.rows[id_]) for found in answer for id_ in found.ids)


def make_slow(number: int) -> Filter:
    """Makes a filter that is evaluated outside the thread that searches, and matches items from that number on."""
    return Filter.parse(" OR ".join(f"number = {number}" for number in range(number, number + 95)))


class Evaluations:
    """Holds back every evaluation of a filter until it may go on, and records which filters they were."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.of: list[str] = []
        self.entered = threading.Semaphore(0)
        self.may_go = threading.Event()
        mask = View.mask

        def wait(view: View, where: Filter | None) -> Mask | None:
            if where is not None:
                self.of.append(where.text)
                self.entered.release()
                self.may_go.wait(PATIENCE_S)
            return mask(view, where)

        monkeypatch.setattr(View, "mask", wait)


@pytest.fixture
def evaluations(monkeypatch: pytest.MonkeyPatch) -> Evaluations:
    """Holds back all filters of the test."""
    return Evaluations(monkeypatch)


async def test_a_slow_filter_holds_up_its_own_searches_alone(
    view: View, base: GatedBase, gallery: Gallery, evaluations: Evaluations
) -> None:
    """It is evaluated outside the thread that searches, once for all that wait for it."""
    slow = make_slow(5)
    searches = Searches(lambda: view, Probes())
    base.gate.release(1000)
    queries = [gallery.queries(1) for _ in range(3)]
    waiting = [asyncio.ensure_future(searches.search(query, 10, slow)) for query in queries]
    await asyncio.sleep(0)

    (quick,) = await searches.search(queries[0], 10, None)
    waited = not any(one.done() for one in waiting)
    evaluations.may_go.set()

    assert waited
    assert len(quick.ids) == 10
    for query, (found,) in zip(queries, await asyncio.gather(*waiting), strict=True):
        assert found.ids == gallery.nearest(query, 10, slow)[0].ids
    assert evaluations.of == [slow.text]
    await searches.close()


async def test_a_slow_filter_is_not_evaluated_whose_callers_have_left(
    view: View, base: GatedBase, gallery: Gallery, evaluations: Evaluations
) -> None:
    """The next one would wait for it; one that others still wait for is evaluated, and so is one that has begun."""
    searches = Searches(lambda: view, Probes())
    base.gate.release(1000)
    begun, left, shared, last = (make_slow(number) for number in range(4))
    query = gallery.queries(1)
    asked = [asyncio.ensure_future(searches.search(query, 10, keep)) for keep in (begun, left, left, shared, shared)]
    matched = asyncio.ensure_future(searches.match(left, 0))
    await asyncio.to_thread(evaluations.entered.acquire)
    leaving = [*asked[:-1], matched]

    for one in leaving:
        one.cancel()
    await asyncio.wait(leaving)
    next_one = asyncio.ensure_future(searches.search(query, 10, last))
    await asyncio.sleep(0)
    evaluations.may_go.set()

    assert (await asked[-1])[0].ids == gallery.nearest(query, 10, shared)[0].ids
    assert (await next_one)[0].ids == gallery.nearest(query, 10, last)[0].ids
    assert evaluations.of == [begun.text, shared.text, last.text]
    await searches.close()


async def test_too_many_slow_filters_are_refused(
    view: View, base: GatedBase, gallery: Gallery, evaluations: Evaluations
) -> None:
    """Searches and other uses are refused at once; a caller whose filter is already waiting shares it."""
    searches = Searches(lambda: view, Probes())
    base.gate.release(1000)
    filters = [make_slow(number) for number in range(MAX_WAITING + 1)]
    asked: list[asyncio.Future[Any]] = [
        asyncio.ensure_future(searches.search(gallery.queries(1), 10, keep)) for keep in [*filters, filters[0]]
    ]
    asked.append(asyncio.ensure_future(searches.match(filters[0], 0)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    refused = [one for one in asked if one.done()]
    evaluations.may_go.set()
    await asyncio.wait(asked)

    assert refused == [asked[MAX_WAITING], asked[-1]]
    for one in refused:
        with pytest.raises(Overloaded, match="too many slow filters wait already: send this one again later"):
            one.result()
    assert not any(one.exception() for one in asked if one not in refused)
    await searches.close()


async def test_few_and_many_are_searched_apart(searches: Searches, base: GatedBase, gallery: Gallery) -> None:
    """A caller who wants ten rows does not pay for one who wants forty."""
    await wait_together(searches, base, (gallery.queries(1), 10, None), (gallery.queries(1), 40, None))

    assert base.calls == [(1, 10), (1, 40)]


async def test_one_call_takes_so_many_queries_and_no_more(
    searches: Searches, base: GatedBase, gallery: Gallery
) -> None:
    """The memory of a call is bounded, whoever asks."""
    queries = gallery.queries(MOST_QUERIES + 10)

    (answer,) = await wait_together(searches, base, (queries, 10, None))

    assert base.calls == [(MOST_QUERIES, 10), (10, 10)]
    assert isinstance(answer, list)
    assert [found.ids for found in answer] == [one.ids for one in gallery.nearest(queries, 10)]


async def test_search_is_not_made_whose_caller_has_left(searches: Searches, base: GatedBase, gallery: Gallery) -> None:
    """Work that nobody waits for would only delay others."""
    left = asyncio.ensure_future(searches.search(gallery.queries(5), 10, None))
    await asyncio.sleep(0)
    left.cancel()

    await wait_together(searches, base, (gallery.queries(1), 10, None))

    assert base.calls == [(1, 10)]


async def test_a_lone_search_that_is_quick_needs_no_thread(
    view: View, base: GatedBase, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made in the event loop once one like it was quick, unless others came lately, and nothing else is."""
    monkeypatch.setattr(module, "QUICK_S", PATIENCE_S)
    monkeypatch.setattr(module, "LONE_S", 0.0)
    searches, loops = Searches(lambda: view, Probes()), threading.current_thread().name
    base.gate.release(1000)

    async def maker(queries: int = 1, count: int = 10, where: Filter | None = None) -> str:
        asked = gallery.queries(queries)
        found = await searches.search(asked, count, where)
        assert [one.ids for one in found] == [one.ids for one in gallery.nearest(asked, count, where)]
        while searches._turn.locked():  # the thread ends its turn just after it answers
            await asyncio.sleep(0)
        return base.made_by[-1]

    assert await maker() == "index-search"
    assert await maker() == loops
    assert await maker(queries=2) == "index-search"
    assert await maker(count=QUICK_COUNT + 1) == "index-search"
    assert await maker(where=Filter.parse("number < 25")) == "index-search"
    assert await maker() == loops
    with searches._turn:  # somebody searches
        waiting = asyncio.ensure_future(maker())
        await asyncio.sleep(0)
    assert await waiting == "index-search"
    monkeypatch.setattr(module, "LONE_S", PATIENCE_S)
    assert await maker() == "index-search"
    monkeypatch.setattr(module, "LONE_S", 0.0)
    monkeypatch.setattr(module, "QUICK_S", 0.5)
    searches._note(1.0)  # as if the index had grown since it was quick
    assert await maker() == "index-search"
    assert await maker() == loops
    monkeypatch.setattr(module, "QUICK_S", 0.0)
    assert await maker() == "index-search"
    await searches.close()


async def test_failed_search_fails_alone(searches: Searches, base: GatedBase, gallery: Gallery) -> None:
    """The thread goes on with the other searches of that moment and with later ones."""
    wrong = np.zeros((1, DIMENSION + 1), np.float32)

    failed, sound = await wait_together(searches, base, (wrong, 40, None), (gallery.queries(1), 10, None))

    assert isinstance(failed, Exception)
    assert isinstance(sound, list)
    assert len((await searches.search(gallery.queries(1), 10, None))[0].ids) == 10


async def test_search_that_was_begun_is_finished_before_closing(
    searches: Searches, base: GatedBase, gallery: Gallery
) -> None:
    """A server that drains still answers."""
    begun = asyncio.ensure_future(searches.search(gallery.queries(1), 10, None))
    await asyncio.sleep(0)
    base.gate.release(1000)

    await searches.close()

    assert len((await begun)[0].ids) == 10
