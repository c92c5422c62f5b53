"""Random writes, rollouts, promotions, rollbacks and restarts, compared with dicts and brute force."""

import asyncio
import contextlib
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from numpy.typing import NDArray
from PIL import Image

from pspsearch.client import AsyncClient, Descriptor, ItemInput
from pspsearch.config import GateSettings
from pspsearch.domain import GenerationState, RolloutStage
from pspsearch.errors import RolloutRefused
from tests.fakes.describer import ColourDescriber, describe_pixels, version
from tests.pictures import encode
from tests.servers.rollout_place import Place, until_ready

SCORE_TOLERANCE = 2e-3
"""The tolerance for descriptors kept in fp16."""

SHIFTS = {1: 0, 2: 5, 3: 9}
IDS = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=4, unique=True)
COLOURS = st.lists(st.tuples(*3 * [st.integers(0, 255)]), min_size=4, max_size=4)

_Answer = TypeVar("_Answer")


@dataclass
class Known:
    """What a generation should be."""

    version: int
    generation: int
    """Two generations may be of one version: one that is built, and one that was rolled back to."""
    points: dict[str, NDArray[np.float32]]
    """The descriptors of the items that it can find."""


def image(colour: tuple[int, ...]) -> bytes:
    """Returns a picture of one colour."""
    return encode(Image.new("RGB", (32, 32), colour), "PNG")


def point(colour: tuple[int, ...], number: int) -> NDArray[np.float32]:
    """Returns the descriptor that a version makes of the colour."""
    return np.roll(describe_pixels(np.full((32, 32, 3), colour, np.uint8)), SHIFTS[number])


class RolloutMachine(RuleBasedStateMachine):
    """One collection and three versions. The gate passes everything, so the operator decides."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        versions = {number: ColourDescriber(version(number), shift) for number, shift in SHIFTS.items()}
        gate = GateSettings(gate_overlap=0.0, gate_slowdown=1e9, gate_spread=1.1)
        self.place = Place(Path(self.folder.name), versions, gate)
        self.colours: dict[str, tuple[int, ...] | None] = {}
        """The colour of every item; None if it was put in as a descriptor."""
        self.active = Known(1, 1, {})
        self.kept: Known | None = None
        self.building: Known | None = None
        self.canary = 0.0
        """The share of callers that the candidate answers: none, some or all."""
        self.open()

    def open(self) -> None:
        """Opens the server as a new process does."""

        async def start() -> tuple[contextlib.AsyncExitStack, AsyncClient]:
            stack = contextlib.AsyncExitStack()
            api = await stack.enter_async_context(self.place.open())
            return stack, await stack.enter_async_context(AsyncClient(api.server.address))

        self.stack, self.client = self.run(start())

    def run(self, call: Coroutine[Any, Any, _Answer]) -> _Answer:
        """Runs a call to its end."""
        return self.runner.run(call)

    def teardown(self) -> None:
        """Closes the server and removes its files."""
        self.run(self.stack.aclose())
        self.runner.close()
        self.folder.cleanup()

    @property
    def living(self) -> list[Known]:
        """The generations that writes reach."""
        return [one for one in (self.active, self.kept, self.building) if one is not None]

    @rule(ids=IDS, colours=COLOURS)
    def put(self, ids: list[str], colours: list[tuple[int, ...]]) -> None:
        """Puts in pictures, new or in place of others."""
        chosen = dict(zip(ids, colours, strict=False))
        done = self.run(self.client.upsert([ItemInput(id_, image(colour)) for id_, colour in chosen.items()]))
        assert all(one.error is None for one in done)
        for id_, colour in chosen.items():
            self.colours[id_] = colour
            for one in self.living:
                one.points[id_] = point(colour, one.version)

    @rule(ids=IDS, colours=COLOURS)
    def put_points(self, ids: list[str], colours: list[tuple[int, ...]]) -> None:
        """Puts in descriptors of the active space; the other generations cannot find them."""
        fingerprint = self.place.versions[self.active.version].version.contract.fingerprint
        points = {id_: point(colour, self.active.version) for id_, colour in zip(ids, colours, strict=False)}
        items = [ItemInput(id_, Descriptor(values, fingerprint)) for id_, values in points.items()]
        assert all(one.error is None for one in self.run(self.client.upsert(items)))
        for id_, values in points.items():
            same = self.colours.get(id_, ()) is None and id_ in self.active.points
            unchanged = same and np.array_equal(self.active.points[id_].astype("f2"), values.astype("f2"))
            self.colours[id_] = None
            if not unchanged:
                for one in self.living:
                    one.points.pop(id_, None)
                self.active.points[id_] = values

    @rule(ids=IDS)
    def delete(self, ids: list[str]) -> None:
        """Deletes items, whichever generation has them."""
        assert self.run(self.client.delete(ids)) == len(self.colours.keys() & set(ids))
        for id_ in ids:
            self.colours.pop(id_, None)
            for one in self.living:
                one.points.pop(id_, None)

    @precondition(lambda self: self.building is None)
    @rule(step=st.sampled_from([1, 2]), wait=st.booleans())
    def begin(self, step: int, *, wait: bool) -> None:
        """Begins a rollout to one of the versions that do not answer."""
        number = (self.active.version - 1 + step) % 3 + 1
        begun = self.run(self.client.start_rollout(number, share=1.0))
        described = {id_: colour for id_, colour in self.colours.items() if colour is not None}
        points = {id_: point(colour, number) for id_, colour in described.items()}
        self.building = Known(number, begun.origin.generation, points)
        self.canary = 0.0
        if wait:
            self.run(until_ready(self.client))

    @precondition(lambda self: self.building is not None)
    @rule(canary=st.sampled_from([0.0, 0.5, 1.0]), shadow=st.sampled_from([0.0, 1.0]))
    def try_out(self, canary: float, shadow: float) -> None:
        """Lets the candidate answer some of the searches to come, or mirrors some to it."""
        self.run(until_ready(self.client))
        self.run(self.client.try_rollout(canary=canary, shadow=shadow))
        self.canary = canary
        if canary == 1:
            assert self.building is not None
            answer = self.run(self.client.search(image((1, 2, 3))))
            assert answer.origin.generation == self.building.generation

    @precondition(lambda self: self.building is not None)
    @rule()
    def promote(self) -> None:
        """Items that cannot be described need the operator's word."""
        assert self.building is not None
        self.run(until_ready(self.client))
        missing = len(self.colours.keys() - self.building.points.keys())
        if missing:
            with pytest.raises(RolloutRefused, match=f"{missing} items have no kept image"):
                self.run(self.client.promote_rollout())
        promoted = self.run(self.client.promote_rollout(drop_missing=bool(missing)))
        assert (promoted.stage, promoted.missing) == (RolloutStage.PROMOTED, missing)
        self.kept, self.active, self.building = self.active, self.building, None

    @precondition(lambda self: self.building is not None)
    @rule()
    def abort(self) -> None:
        """Aborts the rollout; nothing is left of it."""
        self.run(self.client.abort_rollout())
        self.building = None

    @precondition(lambda self: self.kept is not None)
    @rule()
    def roll_back(self) -> None:
        """Rolls back, or there and back."""
        assert self.kept is not None
        origin = self.run(self.client.rollback())
        self.active, self.kept = self.kept, self.active
        assert origin.model_version == self.active.version

    @precondition(lambda self: self.kept is not None)
    @rule()
    def retire(self) -> None:
        """Retires the kept generation, so no rollback is possible."""
        self.run(self.client.retire_generation())
        self.kept = None

    @rule()
    def restart(self) -> None:
        """Restarts; a rollout goes on, and what is kept stays kept."""
        self.run(self.stack.aclose())
        self.open()

    @invariant()
    def answers_are_of_the_active_generation(self) -> None:
        """Or they are of the one on trial: all that it can find, with scores in its space, and nothing else."""
        query = (200, 30, 90)
        answer = self.run(self.client.search(image(query), limit=100))
        tried = self.building is not None and self.canary and answer.origin.generation == self.building.generation
        known = self.building if self.building is not None and tried else self.active
        expected = known.points
        assert answer.origin.model_version == known.version
        assert {hit.id for hit in answer.hits} == expected.keys()
        truth = point(query, known.version)
        for hit in answer.hits:
            assert abs(hit.score - float(expected[hit.id] @ truth)) < SCORE_TOLERANCE

    @invariant()
    def generations_are_where_they_should_be(self) -> None:
        """Every generation has the right version and state."""
        listed = self.run(self.client.list_generations())
        states = {
            one.state: one.origin.model_version
            for one in listed
            if one.state not in (GenerationState.RETIRED, GenerationState.FAILED)
        }
        expected = {GenerationState.ACTIVE: self.active, GenerationState.KEPT: self.kept}
        expected[GenerationState.BUILDING] = self.building
        assert states == {state: one.version for state, one in expected.items() if one is not None}


def run(examples: int) -> None:
    """Runs this many lives of a server."""
    chosen = settings(max_examples=examples, stateful_step_count=20, deadline=None)
    run_state_machine_as_test(RolloutMachine, settings=chosen)


def test_rollouts_agree_with_dicts() -> None:
    """They agree whatever is done in whatever order."""
    run(25)


@pytest.mark.slow
def test_rollouts_agree_with_dicts_for_long() -> None:
    """The same with 500 lives."""
    run(500)
