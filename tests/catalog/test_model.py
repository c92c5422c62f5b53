"""Makes random operations on the catalog, with restarts, and compares it with the one in memory."""

import asyncio
import contextlib
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pspsearch.catalog.catalog import SqliteCatalog
from pspsearch.catalog.collections import take_out_slice
from pspsearch.catalog.connections import connect_reader
from pspsearch.catalog.transaction import Transaction
from pspsearch.domain import Delete, Filling, Generation, GenerationState, Upsert, Written
from pspsearch.errors import PspsearchError
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
    """Makes the same calls to both catalogs, which must answer the same, keys and sequences included."""

    def __init__(self) -> None:
        super().__init__()
        self.data = tempfile.TemporaryDirectory()
        self.clock, self.ear = Clock(), Ear()
        self.model = MemoryCatalog(self.clock)
        self.runner = asyncio.Runner()
        self.run = self.runner.run
        self.generations: dict[str, Generation] = {}
        """For every collection, the generation that writers take for the active one."""
        self.silent: set[int] = set()
        """Generations that got rows of which listeners did not hear."""
        self.open()

    def open(self) -> None:
        """Opens the catalog as a new process finds it."""
        self.catalog = self.run(SqliteCatalog.open(Path(self.data.name), now=self.clock))
        self.catalog.listen(self.ear)

    def teardown(self) -> None:
        """Removes everything."""
        self.run(self.catalog.close())
        self.runner.close()
        self.data.cleanup()

    @initialize(writes=WRITES)
    def begin_with_two_generations(self, writes: list[Upsert | Delete]) -> None:
        """Begins with a collection of two generations, where the second one lacks some items."""
        self.create_or_delete("p")
        self.both(lambda catalog: catalog.begin_generation(self.generations["p"].collection, VERSION, "{}"))
        self.both(lambda catalog: catalog.write(self.generations["p"], writes))

    @rule(name=NAMES)
    def create_or_delete(self, name: str) -> None:
        """Creates or deletes a collection; a name can be used again at once."""
        if name not in self.generations:
            created = self.run(self.catalog.create_collection(name, SETTINGS, VERSION))
            assert created == self.run(self.model.create_collection(name, SETTINGS, VERSION))
            self.generations[name] = created[1]
        else:
            generation = self.generations.pop(name)
            count = self.run(self.catalog.delete_collection(generation.collection))
            assert count == self.run(self.model.delete_collection(generation.collection))

    @precondition(lambda self: bool(self.generations))
    @rule(data=st.data(), writes=WRITES, request_id=REQUEST_IDS, everywhere=st.booleans())
    def write(self, data: st.DataObject, writes: list[Upsert | Delete], request_id: str, *, everywhere: bool) -> None:
        """Makes one call, perhaps one that was made before, for one generation or for all."""
        generation = self.generations[data.draw(st.sampled_from(sorted(self.generations)))]
        if everywhere:
            writes = [describe_for(write, self.living(generation)) for write in writes]

        self.both(lambda catalog: catalog.write(generation, writes, request_id=request_id))

    @precondition(lambda self: bool(self.generations))
    @rule(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        """Begins to build a generation, unless one is being built."""
        collection = self.generations[data.draw(st.sampled_from(sorted(self.generations)))].collection

        self.both(lambda catalog: catalog.begin_generation(collection, VERSION, '{"why": 1}'))

    @precondition(lambda self: bool(self.generations))
    @rule(data=st.data(), count=st.integers(1, 3), renew=st.booleans(), old=st.booleans())
    def fill(self, data: st.DataObject, count: int, *, renew: bool, old: bool) -> None:
        """Fills in some of what a generation lacks, or what was described from an image that the item no longer has."""
        generation = self.draw_generation(data)
        items = self.run(self.model.lacking(generation, 0, count))
        filled = [
            Filling(item.key, "00" * 32 if old or item.image is None else item.image.sha256, describe(item.id.encode()))
            for item in items
        ]
        if not renew:
            self.silent.add(generation.key)

        self.both(lambda catalog: catalog.fill(generation, filled, renew=renew))

    @precondition(lambda self: bool(self.generations))
    @rule(data=st.data(), since=st.sampled_from([0, 5]), lacking=st.booleans(), noticed=st.booleans())
    def promote(self, data: st.DataObject, since: int, *, lacking: bool, noticed: bool) -> None:
        """Promotes a generation, perhaps without writers noticing."""
        generation = self.draw_generation(data)
        promoted = self.both(lambda catalog: catalog.promote_generation(generation, since, "{}", lacking=lacking))
        if promoted is True and noticed:
            name = next(name for name, one in self.generations.items() if one.collection == generation.collection)
            self.generations[name] = generation

    @precondition(lambda self: bool(self.generations))
    @rule(data=st.data(), state=st.sampled_from([GenerationState.RETIRED, GenerationState.FAILED]))
    def end(self, data: st.DataObject, state: GenerationState) -> None:
        """Ends any generation; only the active one cannot be ended."""
        generation = self.draw_generation(data)

        self.both(lambda catalog: catalog.end_generation(generation, state, '{"why": 2}'))

    @precondition(lambda self: bool(self.generations))
    @rule(data=st.data(), calls=st.lists(WRITES, min_size=2, max_size=4))
    def write_at_once(self, data: st.DataObject, calls: list[list[Upsert | Delete]]) -> None:
        """Makes calls that share commits, which must do what they would have done one after the other."""
        names = [data.draw(st.sampled_from(sorted(self.generations))) for _ in calls]

        everywhere = [
            [describe_for(write, self.living(self.generations[name])) for write in call]
            for name, call in zip(names, calls, strict=True)
        ]

        answers = self.run(self._gather(self.catalog, names, everywhere))

        assert answers == self.run(self._gather(self.model, names, everywhere))

    @rule()
    def reopen(self) -> None:
        """Closes and opens the catalog; everything is on disk, even the last sequence."""
        self.run(self.catalog.close())
        self.open()

    @rule(hours=st.sampled_from([1, 12, 23]))
    def wait(self, hours: int) -> None:
        """Lets time pass, so that recorded requests expire."""
        self.clock.advance(hours=hours)

    def living(self, generation: Generation) -> list[Generation]:
        """All living generations of the collection."""
        records = self.run(self.model.generations(generation.collection))
        ended = (GenerationState.RETIRED, GenerationState.FAILED)
        return [record.generation for record in records if record.state not in ended]

    def draw_generation(self, data: st.DataObject) -> Generation:
        """Draws any generation, living or ended, of any collection."""
        active = self.generations[data.draw(st.sampled_from(sorted(self.generations)))]
        records = self.run(self.model.generations(active.collection))
        return data.draw(st.sampled_from([*self.living(active) * 3, *(record.generation for record in records)]))

    def both(self, call: Callable[[Catalog], Coroutine[Any, Any, object]]) -> object:
        """The answer of both catalogs, or the class of the error that both raise."""
        answers: list[object] = []
        for catalog in (self.catalog, self.model):
            try:
                answers.append(self.run(call(catalog)))
            except PspsearchError as error:
                answers.append(type(error))
        assert answers[0] == answers[1]
        return answers[0]

    @invariant()
    def reads_agree(self) -> None:
        """Every item is the same in everything."""
        assert self.run(self.catalog.collections()) == self.run(self.model.collections())
        for generation in self.generations.values():
            self.both(lambda catalog, collection=generation.collection: catalog.generations(collection))
            for living in self.living(generation):
                self.both(lambda catalog, living=living: catalog.lacking(living, 0, 100))
                self.both(lambda catalog, living=living: catalog.count_lacking(living))
            items = self.run(self.catalog.page(generation.collection, 0, 100))
            assert items == self.run(self.model.page(generation.collection, 0, 100))
            for item in items:
                image = self.run(self.catalog.image(generation.collection, item.id))
                assert image == self.run(self.model.image(generation.collection, item.id))

    @invariant()
    def rows_agree(self) -> None:
        """What was heard, what can be read and what the model has are the same rows."""
        for generation in (one for active in self.generations.values() for one in self.living(active)):
            rows = plain(self.catalog.rows_of(generation).after(0))
            if generation.key not in self.silent:
                assert rows == plain(self.ear.rows(generation))
            assert rows == plain(self.model.rows_of(generation).after(0))
            assert self.catalog.rows_of(generation).sequences().tolist() == [row[0] for row in rows]

    @invariant()
    def images_are_those_that_items_have(self) -> None:
        """Once deleted collections are swept, no image is missing or left over, and no descriptor is left over."""
        self.run(self.catalog._writer.do(_tidy))
        with contextlib.closing(connect_reader(Path(self.data.name) / "catalog.sqlite3")) as connection:
            images = {sha256.hex() for (sha256,) in connection.execute("SELECT sha256 FROM images")}
            described: int = connection.execute("SELECT COUNT(*) FROM descriptors").get
        active = self.generations.values()
        items = [item for one in active for item in self.run(self.model.page(one.collection, 0, 100))]
        living = [generation for one in active for generation in self.living(one)]
        assert images == {item.image.sha256 for item in items if item.image is not None and item.image.kept}
        assert described == sum(len(self.model.rows_of(generation).sequences()) for generation in living)

    async def _gather(
        self, catalog: Catalog, names: list[str], calls: list[list[Upsert | Delete]]
    ) -> list[list[Written]]:
        writes = [catalog.write(self.generations[name], call) for name, call in zip(names, calls, strict=True)]
        return await asyncio.gather(*writes)


def describe_for(write: Upsert | Delete, generations: Sequence[Generation]) -> Upsert | Delete:
    """Gives them a descriptor, and another one in each other space."""
    if isinstance(write, Delete) or write.descriptor is None:
        return write
    others = {generation.key: np.roll(write.descriptor, generation.key) for generation in generations}
    return replace(write, others=others)


def _tidy(transaction: Transaction) -> None:
    while take_out_slice(transaction):
        pass


def run(examples: int) -> None:
    """Runs so many lives of a catalog."""
    chosen = settings(max_examples=examples, stateful_step_count=25, deadline=None)
    run_state_machine_as_test(CatalogMachine, settings=chosen)


def test_catalog_agrees_with_the_one_in_memory() -> None:
    """Both catalogs agree, whatever is done to them."""
    run(40)


@pytest.mark.slow
def test_catalog_agrees_with_the_one_in_memory_for_long() -> None:
    """Both catalogs agree in 1,000 lives."""
    run(1000)
