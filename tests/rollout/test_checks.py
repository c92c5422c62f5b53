"""What the gate refuses a version for, over a real channel."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from pspsearch.config import GateSettings
from pspsearch.domain import Described, Inputs, Urgency
from pspsearch.v1 import model_service_pb2 as models
from pspsearch.v1 import resources_pb2 as resources
from pspsearch.v1 import search_service_pb2 as searches
from tests.fakes.describer import Collapsed, ColourDescriber, version
from tests.rollout.steps import EXPECTED, assert_answers_from, failed, search, start, states
from tests.servers.rollout_place import Place, picture, reach, second
from tests.servers.rpc_client import TEMPLE, Api, item, query


class Forgetful(ColourDescriber):
    """A describer whose neighbours have nothing to do with what the images look like."""

    async def describe(
        self,
        inputs: Inputs,
        *,
        cells: bool = False,
        timeout_s: float | None = None,
        urgency: Urgency = Urgency.SEARCH,
    ) -> Described:
        """Returns random descriptors, the same for the same image."""
        await super().describe(inputs, timeout_s=timeout_s)
        rows = [np.random.default_rng(int(np.sum(one))).standard_normal(16) for one in inputs]
        return Described(np.stack([row / np.linalg.norm(row) for row in rows]).astype(np.float32))


class Slow(ColourDescriber):
    """A describer that is slow."""

    async def describe(
        self,
        inputs: Inputs,
        *,
        cells: bool = False,
        timeout_s: float | None = None,
        urgency: Urgency = Urgency.SEARCH,
    ) -> Described:
        """Answers after a delay."""
        await asyncio.sleep(0.02)
        return await super().describe(inputs, timeout_s=timeout_s)


async def test_recent_queries_are_tried(api: Api) -> None:
    """Recent queries by image are a check of their own."""
    await search(api, TEMPLE)
    await start(api)

    ready = await reach(api, models.ROLLOUT_STAGE_READY)

    assert [check.passed for check in ready.checks if check.name == "overlap on queries"] == [True]


async def test_queries_by_a_part_of_an_image_are_not_kept_for_a_check(api: Api) -> None:
    """What is kept is whole images, and nobody searched for this one."""
    box = resources.Box(right=0.5, bottom=1)
    await api.search.Search(searches.SearchRequest(query=query(image=TEMPLE, box=box)))
    await start(api)

    ready = await reach(api, models.ROLLOUT_STAGE_READY)

    assert [check.name for check in ready.checks if check.name == "overlap on queries"] == []


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (Collapsed(version(2)), "collapse is 1, bound 0.95"),
        (Forgetful(version(2)), "overlap is 0."),
    ],
    ids=["collapsed", "forgetful"],
)
async def test_a_bad_version_is_refused_by_the_gate(place: Place, api: Api, bad: ColourDescriber, words: str) -> None:
    """The rollout says why, answers do not change, and another rollout can begin."""
    place.versions[2] = bad
    await start(api, automatic=True)

    refused = await failed(api)

    assert refused.reason.startswith("the gate refused it: ")
    assert words in refused.reason
    assert await states(api) == ["ACTIVE", "FAILED"]
    await assert_answers_from(api, 1, EXPECTED)
    assert (await api.models.GetRollout(models.GetRolloutRequest())).rollout.reason == refused.reason
    place.versions[2] = second()
    await start(api, automatic=True)
    await reach(api, models.ROLLOUT_STAGE_PROMOTED)


async def test_a_slow_version_is_refused(tmp_path: Path) -> None:
    """It is slow compared with the active version."""
    place = Place(tmp_path, {1: ColourDescriber(), 2: Slow(version(2))}, GateSettings(gate_overlap=0.0))
    async with place.open() as api:
        await api.fill(item("a", TEMPLE))
        await start(api)

        assert "latency is" in (await failed(api)).reason


async def test_labels_can_be_a_check(tmp_path: Path) -> None:
    """The check is how often the nearest other item has the same label."""
    gate = GateSettings(gate_overlap=0.0, gate_label="kind", gate_slowdown=1000)
    place = Place(tmp_path, {1: ColourDescriber(), 2: Forgetful(version(2))}, gate)
    async with place.open() as api:
        for number in range(30):
            kind = number % 3
            await api.fill(item(f"{number}", picture(kind) + bytes(number), f'{{"kind": {kind}}}'))
        await start(api)

        rollout = await reach(api, models.ROLLOUT_STAGE_READY)

    (check,) = [check for check in rollout.checks if check.name == "label recall"]
    assert (check.value, check.bound, check.passed) == (1.0, 0.98, True)
