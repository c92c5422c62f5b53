"""Makes searches: quick ones at once, and the others in a thread, which makes those that wait together."""

import asyncio
import contextlib
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from pspsearch.domain import Descriptors, Found, Matched
from pspsearch.filters import Filter
from pspsearch.index.bases.threads import one_thread
from pspsearch.index.masks import Masked, Masks
from pspsearch.index.probes import Probes
from pspsearch.index.view import View

MOST_QUERIES = 256
"""The most queries in one call of a base."""

MOST_ANSWERS = 1 << 17
"""The most rows that one call of a base answers with. Its candidates are a multiple of that."""

QUICK_S = 0.0003
"""A search that takes no longer is made in the event loop: a thread takes about as long to be woken and to answer."""

SLOW_S = 10 * QUICK_S
"""No wait for a core makes a quick search so slow: the index must have grown, or its pages have left the memory."""

LONE_S = 0.001
"""If the search before came so lately, more will: then the thread makes several at once, which costs less for each."""

QUICK_COUNT = 128
"""The most rows that a quick search answers with."""


_Kind = tuple[str | None, Masked | None, int]


@dataclass(eq=False, slots=True)
class _Search:
    queries: Descriptors
    count: int
    where: Filter | None
    masked: Masked | None
    """The filter's mask, if it was evaluated before."""
    future: asyncio.Future[list[Found]]

    @property
    def kind(self) -> _Kind:
        """Searches of equal kind can be made together: same filter, same mask, and a count of the same power of two."""
        return None if self.where is None else self.where.text, self.masked, self.count.bit_length()

    @property
    def is_plain(self) -> bool:
        """Whether all such searches take about as long: one query without a filter, and a few rows."""
        return self.where is None and len(self.queries) == 1 and self.count <= QUICK_COUNT


@dataclass(eq=False, slots=True)
class _Group:
    """Searches of one kind, with their answers or their error."""

    searches: list[_Search] = field(default_factory=list[_Search])
    answers: list[list[Found]] = field(default_factory=list[list[Found]])
    error: Exception | None = None


class Searches:
    """Only tasks of one event loop may use and close it.

    `view` is called where the searches are made, once for all that are made together.
    """

    def __init__(self, view: Callable[[], View], probes: Probes) -> None:
        self._view = view
        self._masks = Masks(view)
        self._probes = probes
        self._queue: queue.SimpleQueue[_Search | None] = queue.SimpleQueue()
        self._turn = threading.Lock()
        """Held by whoever searches."""
        self._last_came_s = 0.0
        self._plain_s = deque([math.inf], maxlen=8)
        """How long the latest plain searches took; the quickest tells most, because others had to wait for a core."""
        self._loop = asyncio.get_running_loop()
        self._closed = False
        # a daemon thread, because a program that ends without closing must not hang
        self._thread = threading.Thread(target=self._run, name="index-search", daemon=True)
        self._thread.start()

    async def search(self, queries: Descriptors, count: int, where: Filter | None) -> list[Found]:
        """See the port Index. A search that is cancelled before its turn is not made."""
        assert not self._closed, "the index is closed"
        masked = await self._masks.prepare(where)
        assert not self._closed, "the index is closed"
        search = _Search(queries, count, where, masked, self._loop.create_future())
        if not self._make_at_once(search):
            self._queue.put(search)
        return await search.future

    async def count(self, where: Filter | None) -> int:
        """See the port Index. A filter is evaluated in another thread, as in `match`."""
        return self._view().living if where is None else await self._masks.ask(where, lambda view: view.count(where))

    async def match(self, where: Filter, after_key: int) -> Matched:
        """See the port Index. Returns all pages as one."""
        return await self._masks.ask(where, lambda view: view.match(where, after_key))

    async def close(self) -> None:
        """Waits until every search that was begun is done and the thread has ended."""
        self._closed = True
        await self._masks.close()
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _make_at_once(self, search: _Search) -> bool:
        """Makes a quick search, unless others came lately or are under way, and returns whether it did."""
        now = time.perf_counter()
        is_lone, self._last_came_s = now - self._last_came_s > LONE_S, now
        is_quick = is_lone and search.is_plain and min(self._plain_s) < QUICK_S
        if not is_quick or not self._turn.acquire(blocking=False):
            return False
        try:
            for group in self._make([search]):
                _deliver(group)
        finally:
            self._turn.release()
        return True

    def _run(self) -> None:
        while self._search_waiting():
            pass

    def _search_waiting(self) -> bool:
        """Makes all waiting searches, and returns whether more may come.

        This is a separate function so that an idle thread holds no view: a merge may have replaced it.
        """
        searches, closing = self._take()
        with self._turn:
            for group in self._make(searches):
                self._loop.call_soon_threadsafe(_deliver, group)
        return not closing

    def _make(self, searches: Iterable[_Search]) -> Iterable[_Group]:
        """Yields the searches as groups, each with its answers. Only who holds the turn may call it."""
        view = self._view()
        for group in _groups(searches):
            began = time.perf_counter()
            _answer(view, group, self._probes)
            if len(group.searches) == 1 and group.searches[0].is_plain and group.error is None:
                self._note(time.perf_counter() - began)
            yield group

    def _note(self, seconds: float) -> None:
        """Notes how long a plain search took. If that was far too long, the times before it tell nothing any more."""
        if seconds > SLOW_S:
            self._plain_s.clear()
        self._plain_s.append(seconds)

    def _take(self) -> tuple[list[_Search], bool]:
        """Returns all waiting searches, at least one unless the queue is closing, and whether it is closing."""
        searches: list[_Search] = []
        try:
            search = self._queue.get()
            while search is not None:
                searches.append(search)
                search = self._queue.get_nowait()
        except queue.Empty:
            return searches, False
        return searches, True


def _groups(searches: Iterable[_Search]) -> Iterable[_Group]:
    """Groups searches by kind, without those whose caller has left."""
    groups: dict[_Kind, _Group] = {}
    for search in searches:
        if not search.future.cancelled():
            groups.setdefault(search.kind, _Group()).searches.append(search)
    return groups.values()


def _answer(view: View, group: _Group, probes: Probes) -> None:
    """Answers a group."""
    try:
        queries = np.concatenate([search.queries for search in group.searches])
        count = max(search.count for search in group.searches)
        first = group.searches[0]
        masked = first.masked or Masked(view, view.mask(first.where))
        found = _find(masked, queries, count, probes)
    except Exception as error:  # the callers must hear of it, and the thread must live on for the next searches
        group.error = error
        return
    start = 0
    for search in group.searches:
        end = start + len(search.queries)
        group.answers.append([_cut(one, search.count) for one in found[start:end]])
        start = end


def _find(masked: Masked, queries: Descriptors, count: int, probes: Probes) -> list[Found]:
    view, mask = masked.view, masked.mask
    step = max(1, min(MOST_QUERIES, MOST_ANSWERS // count))
    with one_thread() if len(queries) == 1 else contextlib.nullcontext():  # starting more would take longer
        found = [
            one
            for start in range(0, len(queries), step)
            for one in view.search(queries[start : start + step], count, mask)
        ]
    probes.offer(view, mask, queries, found)
    return found


def _cut(found: Found, count: int) -> Found:
    if len(found.ids) <= count:
        return found
    return Found(found.sequences[:count], found.ids[:count], found.scores[:count])


def _deliver(group: _Group) -> None:
    """Hands the answers to their callers; runs in the event loop."""
    for number, search in enumerate(group.searches):
        if search.future.done():
            continue
        if group.error is not None:
            search.future.set_exception(group.error)
        else:
            search.future.set_result(group.answers[number])
