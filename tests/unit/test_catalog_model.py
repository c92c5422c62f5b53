"""Random operations on the catalog, with restarts, against the one in memory."""

import asyncio
import contextlib
import sqlite3
import tempfile
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pspsearch.catalog.catalog import SqliteCatalog
from pspsearch.catalog.collections import take_out_slice
from pspsearch.catalog.transaction import Transaction
from pspsearch.domain import Delete, Generation, Upsert, Written
from pspsearch.ports import Catalog
from tests.fakes.catalog import SETTINGS, VERSION, Clock, Ear, MemoryCatalog, describe, picture, plain

IDS = st.sampled_from("abcde")
CONTENTS = st.sampled_from([b"1", b"2", b"3"])
ATTRIBUTES = st.sampled_from([None, "{}", '{"x": 1}'])
WRITES = st.lists(
    st.one_of(
        st.builds(picture, IDS, CONTENTS, ATTRIBUTES, kept=st.sampled_from([True, True, False])),
        st.builds(Upsert, IDS, CONTENTS.map(describe), ATTRIBUTES),
        st.builds(Upsert, IDS, st.none(), ATTRIBUTES),
        st.builds(Delete, IDS),
    ),
    max_size=4,
)
NAMES = st.sampled_from(["p", "q"])
REQUEST_IDS = st.sampled_from(["", "", "", "r1", "r2"])


class CatalogMachine(RuleBasedStateMachine):
    """The same calls to both, which must answer the same, keys and sequences included."""

    def __init__(self) -> None:
        super().__init__()
        self.data = tempfile.TemporaryDirectory()
        self.clock, self.ear = Clock(), Ear()
        self.model = MemoryCatalog(self.clock)
        self.runner = asyncio.Runner()
        self.run = self.runner.run
        self.generations: dict[str, Generation] = {}
        self.open()

    def open(self) -> None:
        """The catalog as a new process finds it."""
        self.catalog = self.run(SqliteCatalog.open(Path(self.data.name), now=self.clock))
        self.catalog.listen(self.ear)

    def teardown(self) -> None:
        """Leaves nothing behind."""
        self.run(self.catalog.close())
        self.runner.close()
        self.data.cleanup()

    @rule(name=NAMES)
    def create_or_delete(self, name: str) -> None:
        """A name is used again at once."""
        if name not in self.generations:
            created = self.run(self.catalog.create_collection(name, SETTINGS, VERSION))
            assert created == self.run(self.model.create_collection(name, SETTINGS, VERSION))
            self.generations[name] = created[1]
        else:
            generation = self.generations.pop(name)
            count = self.run(self.catalog.delete_collection(generation.collection))
            assert count == self.run(self.model.delete_collection(generation.collection))

    @precondition(lambda self: bool(self.generations))
    @rule(data=st.data(), writes=WRITES, request_id=REQUEST_IDS)
    def write(self, data: st.DataObject, writes: list[Upsert | Delete], request_id: str) -> None:
        """One call, also one that was made before."""
        generation = self.generations[data.draw(st.sampled_from(sorted(self.generations)))]
        answer = self.run(self.catalog.write(generation, writes, request_id=request_id))

        assert answer == self.run(self.model.write(generation, writes, request_id=request_id))

    @precondition(lambda self: bool(self.generations))
    @rule(data=st.data(), calls=st.lists(WRITES, min_size=2, max_size=4))
    def write_at_once(self, data: st.DataObject, calls: list[list[Upsert | Delete]]) -> None:
        """Calls that share commits do what they would have done one after the other."""
        names = [data.draw(st.sampled_from(sorted(self.generations))) for _ in calls]

        answers = self.run(self._gather(self.catalog, names, calls))

        assert answers == self.run(self._gather(self.model, names, calls))

    @rule()
    def reopen(self) -> None:
        """Everything is on disk, the count of sequences included."""
        self.run(self.catalog.close())
        self.open()

    @rule(hours=st.sampled_from([1, 12, 23]))
    def wait(self, hours: int) -> None:
        """Recorded requests grow old."""
        self.clock.advance(hours=hours)

    @invariant()
    def reads_agree(self) -> None:
        """Every item is the same in everything."""
        assert self.run(self.catalog.collections()) == self.run(self.model.collections())
        for generation in self.generations.values():
            items = self.run(self.catalog.page(generation.collection, 0, 100))
            assert items == self.run(self.model.page(generation.collection, 0, 100))
            for item in items:
                image = self.run(self.catalog.image(generation.collection, item.id))
                assert image == self.run(self.model.image(generation.collection, item.id))

    @invariant()
    def rows_agree(self) -> None:
        """What was heard, what can be read and what the model has are the same rows."""
        for generation in self.generations.values():
            rows = plain(self.catalog.rows_of(generation).after(0))
            assert rows == plain(self.ear.rows(generation))
            assert rows == plain(self.model.rows_of(generation).after(0))
            assert self.catalog.rows_of(generation).sequences().tolist() == [row[0] for row in rows]

    @invariant()
    def images_are_those_that_items_have(self) -> None:
        """No more, no fewer, once the collections that are gone are taken out; and no descriptor is left over."""
        self.run(self.catalog._writer.do(_tidy))
        with contextlib.closing(sqlite3.connect(Path(self.data.name) / "catalog.sqlite3")) as connection:
            images = {sha256.hex() for (sha256,) in connection.execute("SELECT sha256 FROM images")}
            described = connection.execute("SELECT COUNT(*) FROM descriptors").fetchone()[0]
        items = [
            item
            for generation in self.generations.values()
            for item in self.run(self.model.page(generation.collection, 0, 100))
        ]
        assert images == {item.image.sha256 for item in items if item.image is not None and item.image.kept}
        assert described == len(items)

    async def _gather(
        self, catalog: Catalog, names: list[str], calls: list[list[Upsert | Delete]]
    ) -> list[list[Written]]:
        writes = [catalog.write(self.generations[name], call) for name, call in zip(names, calls, strict=True)]
        return await asyncio.gather(*writes)


def _tidy(transaction: Transaction) -> None:
    while take_out_slice(transaction):
        pass


TestCatalogMachine = CatalogMachine.TestCase
TestCatalogMachine.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
