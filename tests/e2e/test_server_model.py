"""Random calls to a whole server, with merges, rollouts, restarts and damage, compared with a dict and brute force.

Client, gRPC, the catalog on disk and FAISS are real. The fake engine replaces FAISS in a second run and works at its
own pace, as any other engine would. Descriptors are given, or come from describers of colours.
"""

import asyncio
import contextlib
import itertools
import tempfile
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

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
from numpy.typing import NDArray
from PIL import Image

from pspsearch.catalog.catalog import SqliteCatalog
from pspsearch.catalog.folder import INDEXES
from pspsearch.client import AsyncClient, Descriptor, Hit, ItemId, ItemInput, SearchOptions
from pspsearch.config import GateSettings
from pspsearch.domain import DEFAULT_COLLECTION, IndexKind, Outcome, RolloutStage
from pspsearch.errors import NotFound
from pspsearch.filters import Filter
from pspsearch.index.engine import FaissEngine
from pspsearch.index.index import SegmentedIndex
from pspsearch.live.live import Live
from pspsearch.ports import IndexEngine
from tests.fakes.describer import DIMENSION, ColourDescriber, describe_pixels, version
from tests.fakes.index import MemoryEngine
from tests.indexes import DAMAGES, NEVER, PARTS, ROOM, Recalls, snapshot_files
from tests.pictures import encode
from tests.servers.rollout_place import until_ready
from tests.servers.rpc_server import Parts, open_server

SCORE_TOLERANCE = 2e-3
"""Descriptors are kept in fp16: each of 16 numbers up to 1 is off by up to 2^-12, and so about is a product of them."""

SHIFTS = {1: 0, 2: 5, 3: 9}
"""The shift of each version of the model."""

SIDE_PX = 32
"""The size of pictures, which the describer takes, so that nothing is resized."""

OPEN_GATE = GateSettings(gate_overlap=0.0, gate_slowdown=1e9, gate_spread=1.1, gate_self_retrieval=0.0)
"""Everything passes, so that only the rules decide."""

IDS = st.lists(st.integers(0, 899).map("shop/item {}".format), max_size=30, unique=True)
GROUPS = st.integers(0, 3)
FILTERS = st.sampled_from(["", "", "group = 1", "group > 0", "NOT group = 2", "rare = true", "group = 9", "colour:*"])
LIMITS = st.sampled_from([1, 3, 10, 50, 1000])
COLOURS = st.tuples(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
SEEDS = st.integers(0, 99)

_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Thing:
    """What an item should be."""

    points: Mapping[int, NDArray[np.float32]]
    """The descriptors by version: a picture has every version's, another item only that of the version then active."""
    attributes: Mapping[str, Any]
    image: bytes | None = None


def unit(vector: NDArray[Any]) -> NDArray[np.float32]:
    """Returns the unit vector in that direction."""
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def picture(colour: tuple[int, int, int], attributes: Mapping[str, Any]) -> Thing:
    """Returns a PNG of one colour."""
    image = Image.new("RGB", (SIDE_PX, SIDE_PX), colour)
    point = describe_pixels(np.asarray(image))
    points = {number: np.roll(point, shift) for number, shift in SHIFTS.items()}
    return Thing(points, attributes, encode(image, "PNG"))


class ServerMachine(RuleBasedStateMachine):
    """One collection, over any engine."""

    kind = IndexKind.EXACT
    recalls: Recalls

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.chance = np.random.default_rng(7)
        self.centres = self.chance.standard_normal((40, DIMENSION))
        self.versions = {number: ColourDescriber(version(number), shift) for number, shift in SHIFTS.items()}
        self.things: dict[str, Thing] = {}
        self.last_sequence = 0
        self.active = 1
        self.kept: int | None = None
        self.building: int | None = None
        self.open()

    def open(self) -> None:
        """Opens the server as a new process does."""

        async def start() -> tuple[contextlib.AsyncExitStack, Parts, AsyncClient]:
            stack = contextlib.AsyncExitStack()
            catalog = await stack.enter_async_context(await SqliteCatalog.open(Path(self.folder.name)))
            opened = open_server(
                catalog=catalog, engine=self.engine, index_kind=self.kind, versions=self.versions, gate=OPEN_GATE
            )
            server = await stack.enter_async_context(opened)
            return stack, server, await stack.enter_async_context(AsyncClient(server.address))

        self.stack, self.server, self.client = self.run(start())

    def run(self, call: Coroutine[Any, Any, _Answer]) -> _Answer:
        """Runs a call to its end."""
        return self.runner.run(call)

    def teardown(self) -> None:
        """Closes the server and removes its files."""
        self.run(self.stack.aclose())
        self.runner.close()
        self.folder.cleanup()

    @property
    def engine(self) -> IndexEngine:
        """The engine of the server."""
        raise NotImplementedError

    def settle(self) -> None:
        """Does what an engine must do after many rows came."""

    @property
    def live(self) -> Live:
        """What answers for the collection."""
        return self.server.collections.get(DEFAULT_COLLECTION)

    @property
    def found(self) -> dict[str, Thing]:
        """The items that the active version has a descriptor of."""
        return {id_: one for id_, one in self.things.items() if self.active in one.points}

    def given(self, descriptor: NDArray[np.float32]) -> Descriptor:
        """Returns the descriptor as the API takes it."""
        return Descriptor(descriptor, self.versions[self.active].version.contract.fingerprint)

    def source(self, thing: Thing) -> bytes | Descriptor:
        """Returns what is put in for the item."""
        return thing.image or self.given(thing.points[self.active])

    def point(self, attributes: Mapping[str, Any]) -> Thing:
        """Returns an item without an image."""
        return Thing({self.active: self.draw()}, attributes)

    def draw(self) -> NDArray[np.float32]:
        """Draws a descriptor that lies near others."""
        centre = self.centres[self.chance.integers(len(self.centres))]
        return unit(centre + 0.7 * self.chance.standard_normal(DIMENSION))

    def matching(self, text: str) -> dict[str, Thing]:
        """Returns the items that match and can be found, in the order in which they were first put in."""
        where = Filter.parse(text or "*")
        return {id_: one for id_, one in self.found.items() if where.matches(dict(one.attributes))}

    def upsert(self, things: Mapping[str, Thing]) -> None:
        """Puts items in. Each is acknowledged as what it is, every change with a higher number than all before it."""
        items = [ItemInput(id_, self.source(one), one.attributes) for id_, one in things.items()]
        for done in self.run(self.client.upsert(items)) if items else ():
            assert done.outcome is (Outcome.REPLACED if done.id in self.things else Outcome.CREATED)
            assert done.sequence > self.last_sequence
            self.last_sequence = done.sequence
        self.things |= things

    @initialize(rows=st.sampled_from([800, 30, 0]), every=st.sampled_from([2, 5, 900]))
    def begin(self, rows: int, every: int) -> None:
        """Begins with enough rows for lists, or with few or none, by a stream; some of them are pictures."""
        things: dict[str, Thing] = {}
        for number in range(rows):
            attributes = {"group": number % 4}
            colour = (number % 256, 7 * number % 256, 31 * number % 256)
            is_picture = number % every == every - 1
            things[f"shop/item {number}"] = picture(colour, attributes) if is_picture else self.point(attributes)

        async def ingest() -> list[str]:
            items = (ItemInput(id_, self.source(one), one.attributes) for id_, one in things.items())
            done = [one async for one in self.client.ingest(items)]
            assert sorted(one.id for one in done) == sorted(things)
            assert all(one.outcome is Outcome.CREATED for one in done)
            self.last_sequence = max((one.sequence for one in done), default=0)
            return [item.id async for item in self.client.list(page_size=1000)]

        self.things = {id_: things[id_] for id_ in self.run(ingest())}  # a stream may put in a later one first
        self.settle()

    @rule(ids=IDS, group=GROUPS)
    def put(self, ids: Sequence[str], group: int) -> None:
        """Puts in new items, and other descriptors for existing ones."""
        self.upsert({id_: self.point({"group": group}) for id_ in ids})

    @rule(ids=IDS, colours=st.lists(COLOURS, min_size=30, max_size=30), group=GROUPS)
    def show(self, ids: Sequence[str], colours: Sequence[tuple[int, int, int]], group: int) -> None:
        """Puts in items with pictures."""
        attributes = [{"group": group, "colour": list(colour), "turn": self.last_sequence} for colour in colours]
        self.upsert({id_: picture(colours[n], attributes[n]) for n, id_ in enumerate(ids)})

    @rule(ids=IDS)
    def label(self, ids: Sequence[str]) -> None:
        """Changes attributes but not descriptors or images; only a missing item is refused."""
        items = [
            ItemInput(id_, None, {**self.things[id_].attributes, "rare": True}) for id_ in ids if id_ in self.things
        ]
        items.append(ItemInput("nobody", None, {}))
        *done, refused = self.run(self.client.upsert(items))

        assert isinstance(refused.error, NotFound)
        for item, one in zip(items, done, strict=False):
            assert item.attributes is not None
            changed = item.attributes != self.things[item.id].attributes
            assert one.outcome is (Outcome.REPLACED if changed else Outcome.UNCHANGED)
            self.last_sequence = max(self.last_sequence, one.sequence)
            old = self.things[item.id]
            self.things[item.id] = replace(old, attributes=item.attributes)

    @rule(share=st.sampled_from([0.01, 0.1, 1.0]), seed=SEEDS)
    def delete(self, share: float, seed: int) -> None:
        """Deletes a few items, many, or all, together with some that never existed."""
        chance = np.random.default_rng(seed)
        gone = [id_ for id_ in sorted(self.things) if chance.random() < share]

        assert self.run(self.client.delete([*gone, "nobody"])) == len(gone)
        for id_ in gone:
            del self.things[id_]

    @rule(text=st.sampled_from(["group = 3", "rare = true", "group = 9"]))
    def delete_matching(self, text: str) -> None:
        """Deletes exactly what the filter matches, also items without a descriptor in the active version."""
        where = Filter.parse(text)
        left = {id_: one for id_, one in self.things.items() if not where.matches(dict(one.attributes))}

        assert self.run(self.client.delete(filter=text)) == len(self.things) - len(left)
        self.things = left

    @rule()
    def restart(self) -> None:
        """Restarts from what the server left."""
        self.run(self.stack.aclose())
        self.open()

    @precondition(lambda self: self.building is None)
    @rule(step=st.sampled_from([1, 2]))
    def roll_out(self, step: int) -> None:
        """Begins a rollout to a version that has no generation; nothing is seen of it yet."""
        others = [number for number in SHIFTS if number not in (self.active, self.kept)]
        self.building = others[step % len(others)]
        self.run(self.client.start_rollout(self.building, share=1.0))

    @precondition(lambda self: self.building is not None)
    @rule()
    def promote(self) -> None:
        """Promotes the rollout, without the items that have no image."""
        assert self.building is not None
        self.run(until_ready(self.client))
        missing = sum(self.building not in one.points for one in self.things.values())
        promoted = self.run(self.client.promote_rollout(drop_missing=bool(missing)))
        assert (promoted.stage, promoted.missing) == (RolloutStage.PROMOTED, missing)
        if self.kept not in (None, self.building):
            self.forget(self.kept)
        self.active, self.kept, self.building = self.building, self.active, None

    @precondition(lambda self: self.building is not None)
    @rule()
    def abort(self) -> None:
        """Aborts the rollout, as if it had never been."""
        self.run(self.client.abort_rollout())
        self.building = None

    @precondition(lambda self: self.kept is not None)
    @rule()
    def roll_back(self) -> None:
        """Rolls back to everything that the generation had, and to what came since."""
        assert self.kept is not None
        assert self.run(self.client.rollback()).model_version == self.kept
        self.active, self.kept = self.kept, self.active

    @precondition(lambda self: self.kept is not None)
    @rule()
    def retire(self) -> None:
        """Retires the kept generation, so no rollback is possible."""
        self.run(self.client.retire_generation())
        self.forget(self.kept)
        self.kept = None

    def forget(self, number: int | None) -> None:
        """Forgets the descriptors of items without an image in a generation that is gone."""
        for id_, one in self.things.items():
            if one.image is None:
                points = {version: point for version, point in one.points.items() if version != number}
                self.things[id_] = replace(one, points=points)

    @rule(text=FILTERS, limit=LIMITS)
    def search(self, text: str, limit: int) -> None:
        """Searches for the best of what the filter matches, with scores and attributes."""
        query = self.draw()
        options = SearchOptions(limit=limit, filter=text, return_attributes=True, return_descriptors=True)
        answer = self.run(self.client.search(self.given(query), **options))

        assert answer.origin.fingerprint == self.versions[self.active].version.contract.fingerprint
        self.check(answer.hits, query, self.matching(text), limit)
        for hit in answer.hits:
            assert hit.attributes == self.things[hit.id].attributes
            assert hit.descriptor is not None
            point = self.things[hit.id].points[self.active]
            assert np.allclose(hit.descriptor.values, point, rtol=0, atol=SCORE_TOLERANCE)

    @precondition(lambda self: bool(self.found))
    @rule(text=FILTERS, limit=LIMITS, seed=SEEDS)
    def search_by_item(self, text: str, limit: int, seed: int) -> None:
        """Searches by item, which is no hit itself."""
        id_ = sorted(self.found)[seed % len(self.found)]
        answer = self.run(self.client.search(ItemId(id_), limit=limit, filter=text))

        others = {other: one for other, one in self.matching(text).items() if other != id_}
        self.check(answer.hits, self.things[id_].points[self.active], others, limit)

    @rule(text=FILTERS, colour=COLOURS)
    def search_batch(self, text: str, colour: tuple[int, int, int]) -> None:
        """Searches for a picture, a descriptor, and a missing item, which is refused alone."""
        shown, point = picture(colour, {}), self.draw()
        asked = [self.source(shown), ItemId("nobody"), self.given(point)]
        by_picture, refused, by_point = self.run(self.client.search_batch(asked, filter=text)).results

        assert isinstance(refused, NotFound)
        for hits, query in ((by_picture, shown.points[self.active]), (by_point, point)):
            assert not isinstance(hits, Exception)
            self.check(hits, query, self.matching(text), 10)

    def check(self, hits: Sequence[Hit], query: NDArray[np.float32], things: Mapping[str, Thing], limit: int) -> None:
        """Checks hits: all the best of an exact base, nearly all of another.

        From any, hits that are right in themselves.
        """
        scores = {id_: float(one.points[self.active] @ query) for id_, one in things.items()}
        best = sorted(scores.values(), reverse=True)[:limit]
        assert len({hit.id for hit in hits}) == len(hits) == len(best)
        assert all(hit.id in things for hit in hits)
        assert np.allclose([hit.score for hit in hits], [scores[hit.id] for hit in hits], rtol=0, atol=SCORE_TOLERANCE)
        assert all(one.score >= other.score for one, other in itertools.pairwise(hits))
        if self.live.index.state.plan == "exact":
            assert np.allclose([hit.score for hit in hits], best, rtol=0, atol=SCORE_TOLERANCE)
        else:
            self.recalls.add(sum(scores[hit.id] >= best[-1] - SCORE_TOLERANCE for hit in hits), len(best))

    @rule(text=FILTERS, page_size=st.sampled_from([1000, 47]))
    def list(self, text: str, page_size: int) -> None:
        """Lists every item once, in the order in which they were first put in; the count agrees."""

        async def collect() -> tuple[list[tuple[str, Mapping[str, Any]]], int]:
            listed = [(item.id, item.attributes) async for item in self.client.list(filter=text, page_size=page_size)]
            return listed, await self.client.count(filter=text)

        listed, count = self.run(collect())

        wanted = self.matching(text) if text else self.things
        assert listed == [(id_, one.attributes) for id_, one in wanted.items()]
        assert count == len(self.matching(text))

    @precondition(lambda self: bool(self.things))
    @rule(seed=SEEDS)
    def get(self, seed: int) -> None:
        """Gets an item as it was last put in, with its image's bytes."""
        id_ = sorted(self.things)[seed % len(self.things)]
        thing = self.things[id_]
        item = self.run(self.client.get(id_, descriptor=True))

        assert item.attributes == thing.attributes
        assert (item.descriptor is None) is (self.active not in thing.points)
        if item.descriptor is not None:
            assert np.allclose(item.descriptor.values, thing.points[self.active], rtol=0, atol=SCORE_TOLERANCE)
        assert (item.image is None) is (thing.image is None)
        if thing.image is not None:
            assert self.run(self.client.get_image(id_)) == thing.image

    @invariant()
    def everything_is_found(self) -> None:
        """Everything is, at every moment; an acknowledged write is counted at once."""
        assert self.run(self.client.count()) == len(self.found)
        self.search("", 10)


class FaissMachine(ServerMachine):
    """A server over FAISS, whose base is exact or not. Nothing happens in its background except by rules."""

    @property
    def engine(self) -> FaissEngine:
        """The engine, with its folders among the catalog's files."""
        return FaissEngine(Path(self.folder.name) / INDEXES, ROOM, NEVER)

    def settle(self) -> None:
        """Merges, so that there are lists if there are enough rows."""
        self.merge()

    @property
    def index(self) -> SegmentedIndex:
        """The index that answers."""
        assert isinstance(self.live.index, SegmentedIndex)
        return self.live.index

    @rule()
    def merge(self) -> None:
        """Brings all rows into the base."""
        self.index._segments.merge(lambda _: None)

        assert self.index.state.fresh == 0

    @rule()
    def compact(self) -> None:
        """Drops all dead rows."""
        segments = self.index._segments
        segments.compact(self.index._upkeep._snapshots.new_matrix(), lambda _: None)

        assert segments.view.rows == len(self.found)

    @rule(part=st.sampled_from(PARTS), damage=st.sampled_from(DAMAGES), where=st.floats(0, 1, exclude_max=True))
    def restart_with_damage(self, part: str, damage: Callable[[Path, int], None], where: float) -> None:
        """Restarts from the snapshot that the server left, with one file damaged."""
        folder = self.engine.folder_of(self.live.generation)
        self.run(self.stack.aclose())
        path, size_bytes = snapshot_files(folder)[part]
        damage(path, int(where * size_bytes))
        self.open()


class FakeMachine(ServerMachine):
    """A server over an engine that sees a commit a while later."""

    @property
    def engine(self) -> MemoryEngine:
        """The engine, of which a restart finds nothing."""
        return MemoryEngine(delay_s=0.002)


def run(machine: type[ServerMachine], kind: IndexKind, examples: int) -> None:
    """Runs that machine over a base of that kind; recall is that of all searches on an approximate base."""
    machine.kind, machine.recalls = kind, Recalls()

    run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=25, deadline=None))

    machine.recalls.check(kind)


KINDS = pytest.mark.parametrize("kind", [IndexKind.EXACT, IndexKind.IVF, IndexKind.HNSW])


@KINDS
def test_server_agrees_with_a_dict(kind: IndexKind) -> None:
    """It agrees whatever is called in whatever order."""
    run(FaissMachine, kind, 10)


def test_server_over_another_engine_agrees_with_a_dict() -> None:
    """Its promises depend neither on FAISS, nor on an index that sees a commit at once."""
    run(FakeMachine, IndexKind.EXACT, 10)


@pytest.mark.slow
@KINDS
def test_server_agrees_with_a_dict_for_long(kind: IndexKind) -> None:
    """The same with 300 lives."""
    run(FaissMachine, kind, 300)
