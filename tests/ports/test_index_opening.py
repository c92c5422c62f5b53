"""An index that is opened while its rows change: the fake, and the real one with and without a snapshot."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from pspsearch.domain import Commit, IndexKind, Row, Sequences
from pspsearch.ports import Index
from tests.fakes.index import Gallery, MemoryIndex, match_all
from tests.indexes import open_index

IDS = [f"item-{number}" for number in range(60)]


class Restless:
    """A source that changes between any two rows that are read, and remembers the commits."""

    def __init__(self, gallery: Gallery, seed: int) -> None:
        self.commits: list[Commit] = []
        self._gallery = gallery
        self._random = random.Random(seed)

    def change(self) -> None:
        """Changes one item, if the chance says so."""
        id_ = self._random.choice(IDS)
        what = self._random.random()
        if what < 0.4:
            self.commits.append(self._gallery.put(id_))
        elif id_ in self._gallery.rows and what < 0.8:
            self.commits.append(self._gallery.drop(id_))

    def last_change(self) -> int:
        """See the port."""
        return self._gallery.source.last_change()

    def sequences(self) -> Sequences:
        """See the port."""
        self.change()
        sequences = self._gallery.source.sequences()
        self.change()
        return sequences

    def after(self, sequence: int) -> Iterator[Row]:
        """See the port. Of rows removed meanwhile it yields only those already read."""
        last = max(self._gallery.by_sequence(), default=0)
        while rows := [row for row in self._gallery.source.after(sequence) if row.sequence <= last]:
            yield rows[0]
            sequence = rows[0].sequence
            self.change()


@pytest.mark.parametrize("kind", ["memory", "real", "snapshot"])
@pytest.mark.parametrize("seed", range(20))
async def test_what_changes_meanwhile_is_caught_up(tmp_path: Path, kind: str, seed: int) -> None:
    """The index then has every existing row and no other."""
    gallery = Gallery(seed)
    for id_ in IDS[::2]:
        gallery.put(id_)
    if kind == "snapshot":
        before = await open_index(tmp_path, gallery.source, IndexKind.AUTO)
        await before.close()
    for id_ in IDS[1::2]:
        gallery.put(id_)
    source = Restless(gallery, seed)
    for _ in range(seed % 3):
        source.change()

    index: Index = MemoryIndex(source) if kind == "memory" else await open_index(tmp_path, source, IndexKind.AUTO)
    index.catch_up(source.commits)

    assert len(source.commits) > 10
    assert sorted((await match_all(index)).sequences.tolist()) == sorted(gallery.by_sequence())
    index.apply(gallery.put("another"))
    assert (await match_all(index)).sequences[-1] == gallery.rows["another"].sequence
    await index.close()


async def test_nothing_may_have_changed(tmp_path: Path) -> None:
    """Then there is nothing to catch up with."""
    gallery = Gallery()
    gallery.put("it")
    for index in (MemoryIndex(gallery.source), await open_index(tmp_path, gallery.source, IndexKind.AUTO)):
        index.catch_up([])

        assert index.state.rows == 1
        await index.close()
