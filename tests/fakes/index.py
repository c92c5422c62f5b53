"""An index that scores everything, things to put into one, and the true answers to compare with.

tests/ports/test_index.py checks that it behaves as the real one does.
"""

import asyncio
import itertools
import json
import random
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspsearch.domain import (
    CollectionSettings,
    Commit,
    Descriptors,
    Found,
    Generation,
    IndexState,
    Matched,
    Row,
    Sequences,
    StoredDescriptor,
)
from pspsearch.filters import Filter
from pspsearch.ports import Index, RowSource
from tests.fakes.catalog import MemoryRows

DIMENSION = 16
ALL = Filter.parse("*")
GENERATION = Generation(3, 2, "pspnet", 1, "0123456789abcdef", DIMENSION)


class Gallery:
    """The items of one collection. Every change returns the commit that a catalog would tell."""

    def __init__(self, seed: int = 0, centres: int = 40) -> None:
        """`seed` decides the descriptors, which lie around `centres` centres."""
        self.rows: dict[str, Row] = {}
        self._chance = np.random.default_rng(seed)
        self._centres = self._chance.standard_normal((centres, DIMENSION))
        self._sequences, self._keys = itertools.count(1), itertools.count(1)
        self._last_change = 0

    @property
    def source(self) -> MemoryRows:
        """The rows that an index is built from."""
        return MemoryRows(lambda: sorted(self.rows.values(), key=lambda row: row.sequence), lambda: self._last_change)

    def draw(self) -> StoredDescriptor:
        """Draws a descriptor that an item could have."""
        centre = self._centres[self._chance.integers(len(self._centres))]
        return stored(centre + 0.7 * self._chance.standard_normal(DIMENSION))

    def queries(self, count: int) -> Descriptors:
        """Draws unit rows that are near some items."""
        return np.stack([unit(self.draw().astype(np.float32)) for _ in range(count)])

    def put(self, id_: str, descriptor: StoredDescriptor | None = None, **attributes: Any) -> Commit:
        """Puts an item in, or replaces it; a replaced item keeps its key."""
        old = self.rows.pop(id_, None)
        key = next(self._keys) if old is None else old.key
        descriptor = self.draw() if descriptor is None else descriptor
        row = Row(next(self._sequences), key, id_, json.dumps(attributes), descriptor)
        self.rows[id_], self._last_change = row, row.sequence
        return commit([row], [] if old is None else [old.sequence])

    def label(self, id_: str, **attributes: Any) -> Commit:
        """Changes the attributes alone."""
        return self.put(id_, self.rows[id_].descriptor, **attributes)

    def drop(self, id_: str) -> Commit:
        """Deletes an item."""
        return commit([], [self.rows.pop(id_).sequence])

    def nearest(self, queries: Descriptors, count: int, where: Filter | None = None) -> list[Found]:
        """Returns the true answers."""
        rows = sorted((row for row in self.rows.values() if holds(where, row)), key=lambda row: row.sequence)
        return nearest(rows, queries, count)

    def by_sequence(self) -> dict[int, Row]:
        """The existing rows by sequence."""
        return {row.sequence: row for row in self.rows.values()}


@dataclass
class MemoryEngine:
    """Implements the port `IndexEngine`; nothing of it lasts."""

    delay_s: float | None = None
    """How long its indexes take to see a commit, in seconds; None if they see it at once."""

    async def open(self, generation: Generation, settings: CollectionSettings, rows: RowSource) -> "MemoryIndex":
        """Opens an index anew from all rows."""
        return MemoryIndex(rows) if self.delay_s is None else LateIndex(rows, self.delay_s)

    async def drop(self, generation: Generation) -> None:
        """Does nothing, because there is nothing to drop."""


class MemoryIndex:
    """Implements the port `Index` over a dict."""

    def __init__(self, source: RowSource) -> None:
        """Starts with the rows that the source has now."""
        self._rows = {row.sequence: row for row in source.after(0)}
        self._descriptors = {sequence: row.descriptor for sequence, row in self._rows.items()}
        self._sequence = max(self._rows, default=0)

    def apply(self, commit: Commit) -> Future[None] | None:
        """See the port. Raises KeyError if a removed row is not there."""
        rows = self._rows | {row.sequence: row for row in commit.added}
        self._descriptors |= {row.sequence: row.descriptor for row in commit.added}
        for sequence in commit.removed:
            del rows[sequence]
        self._sequence = max([self._sequence, *(row.sequence for row in commit.added)])
        self._rows = rows  # in one step, because others may be searching
        return None

    def catch_up(self, commits: Sequence[Commit]) -> None:
        """See the port. Applies one commit after another."""
        opened = self._sequence
        for one in commits:
            added = tuple(row for row in one.added if row.sequence > opened)
            removed = tuple(sequence for sequence in one.removed if sequence in self._rows)
            MemoryIndex.apply(self, Commit(one.collection, one.generation, added, removed))

    def check_current(self) -> None:
        """See the port. The index is always current."""

    async def search(self, queries: Descriptors, count: int, where: Filter | None = None) -> list[Found]:
        """See the port. Every row is scored."""
        return nearest(self._which(where), queries, count)

    async def count(self, where: Filter | None = None) -> int:
        """See the port."""
        return len(self._which(where))

    async def match(self, where: Filter, page_size: int, after_key: int = 0) -> AsyncGenerator[Matched]:
        """See the port. All pages come from one list."""
        matched = by_key(row for row in self._which(where) if row.key > after_key)
        for start in range(0, max(1, len(matched.keys)), page_size):
            page = slice(start, start + page_size)
            yield Matched(matched.keys[page], matched.sequences[page])

    async def sample(self, count: int) -> Matched:
        """See the port. Every call draws other rows."""
        rows = self._which(None)
        return by_key(random.sample(rows, min(count, len(rows))))

    async def contains(self, sequences: Sequences) -> NDArray[np.bool_]:
        """See the port."""
        return np.array([sequence in self._rows for sequence in sequences.tolist()], np.bool_)

    async def descriptors(self, sequences: Iterable[int]) -> Descriptors:
        """See the port. Those of rows that are gone are kept."""
        return np.array([self._descriptors[sequence] for sequence in sequences], np.float32)

    @property
    def state(self) -> IndexState:
        """See the port. The index is always exact."""
        return IndexState("exact", len(self._rows), self._sequence, 1.0, 0, 0, 0)

    async def close(self) -> None:
        """Does nothing, because there is nothing to leave."""

    def _which(self, where: Filter | None) -> list[Row]:
        return [row for row in self._rows.values() if holds(where, row)]


class LateIndex(MemoryIndex):
    """Sees every commit a while after hearing of it, as an index on another machine does."""

    def __init__(self, source: RowSource, delay_s: float) -> None:
        super().__init__(source)
        self._delay_s = delay_s
        self._thread = ThreadPoolExecutor(1, "late-index")

    def apply(self, commit: Commit) -> Future[None]:
        """Applies the commit in a thread of its own, in commit order."""
        return self._thread.submit(self._apply_late, commit)

    async def close(self) -> None:
        """Waits until all commits that it heard of are seen."""
        await asyncio.to_thread(self._thread.shutdown)

    def _apply_late(self, commit: Commit) -> None:
        time.sleep(self._delay_s)
        super().apply(commit)


def by_key(rows: Iterable[Row]) -> Matched:
    """Returns these rows as an index does."""
    pairs = sorted((row.key, row.sequence) for row in rows)
    keys, sequences = np.array(pairs, np.int64).reshape(-1, 2).T
    return Matched(keys, sequences)


async def match_all(index: Index, where: Filter = ALL) -> Matched:
    """Returns all rows that a filter matches, in one page."""
    (page,) = [page async for page in index.match(where, 1 << 40)]
    return page


def holds(where: Filter | None, row: Row) -> bool:
    """Returns whether a filter matches a row."""
    return where is None or where.matches(json.loads(row.attributes))


def nearest(rows: list[Row], queries: Descriptors, count: int) -> list[Found]:
    """Returns the nearest rows of each query; `rows` must be by ascending sequence."""
    if not rows:
        return [Found(np.zeros(0, np.int64), [], np.zeros(0, np.float32)) for _ in queries]
    matrix = np.stack([row.descriptor for row in rows]).astype(np.float32)
    sequences = np.array([row.sequence for row in rows], np.int64)
    scores = np.einsum("rd,qd->qr", matrix, queries)  # BLAS might score equal rows unequally here
    best = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return [
        Found(sequences[places], [rows[place].id for place in places], of_rows[places])
        for of_rows, places in zip(scores, best, strict=True)
    ]


def commit(added: Iterable[Row], removed: Iterable[int]) -> Commit:
    """Returns a commit of the one generation."""
    return Commit(GENERATION.collection, GENERATION.key, tuple(added), tuple(removed))


def join(commits: Iterable[Commit]) -> Commit:
    """Returns the commit of one transaction that does it all; a row that comes and goes within it is left out."""
    added: dict[int, Row] = {}
    removed: list[int] = []
    for one in commits:
        removed += [sequence for sequence in one.removed if added.pop(sequence, None) is None]
        added |= {row.sequence: row for row in one.added}
    return commit(added.values(), removed)


def stored(vector: NDArray[Any]) -> StoredDescriptor:
    """Returns the unit vector in that direction, in fp16."""
    return unit(vector).astype(np.float16)


def unit(vector: NDArray[Any]) -> NDArray[np.float32]:
    """Returns the unit vector in that direction."""
    return (vector / np.linalg.norm(vector)).astype(np.float32)
