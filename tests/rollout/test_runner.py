"""Rollouts from their beginning to their end, over a real channel."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from pspsearch.domain import Urgency
from pspsearch.errors import BrokenModel, StorageFull
from pspsearch.rollout import filling, runner
from pspsearch.rollout.promotion import Promoter
from pspsearch.v1 import model_service_pb2 as models
from tests.fakes.describer import ColourDescriber, version
from tests.rollout.steps import EXPECTED, assert_answers_from, failed, promote, search, start, states
from tests.servers.rollout_place import OVERLAP, Place, picture, reach, second
from tests.servers.rpc_client import FLOWER, TEMPLE, Api, item, open_api, refuse


async def test_a_rollout_is_described_checked_and_promoted(api: Api) -> None:
    """Answers do not change before the promotion, and all of them change with it."""
    begun = await start(api)
    assert (begun.origin.model_version, begun.stage) == (2, models.ROLLOUT_STAGE_DESCRIBING)

    ready = await reach(api, models.ROLLOUT_STAGE_READY)

    assert (ready.described_count, ready.total_count, ready.missing_count) == (20, 20, 0)
    assert {check.name for check in ready.checks} == {
        "unit length",
        "collapse",
        "self-retrieval",
        "overlap",
        "latency",
    }
    assert all(check.passed and check.words for check in ready.checks)
    assert await states(api) == ["ACTIVE", "BUILDING"]
    await assert_answers_from(api, 1, EXPECTED)
    assert (await promote(api)).stage == models.ROLLOUT_STAGE_PROMOTED
    assert await states(api) == ["KEPT", "ACTIVE"]
    await assert_answers_from(api, 2, EXPECTED)
    told = (await api.models.GetRollout(models.GetRolloutRequest())).rollout
    assert (told.stage, list(told.checks)) == (models.ROLLOUT_STAGE_PROMOTED, list(ready.checks))


async def test_the_model_is_told_for_whom_it_describes(api: Api) -> None:
    """So that it can take searches first, then writes, and a rollout last."""
    versions = api.server.versions
    assert {*versions[1].urgencies} == {Urgency.WRITE}

    await search(api, TEMPLE)
    assert versions[1].urgencies[-1] is Urgency.SEARCH

    await start(api)
    await reach(api, models.ROLLOUT_STAGE_READY)
    assert versions[2].urgencies.count(Urgency.ROLLOUT) >= len(EXPECTED)  # and the gate's own
    assert Urgency.WRITE not in versions[2].urgencies


async def test_more_images_are_described_at_once_if_that_is_set() -> None:
    """As a GPU wants it; and none is left out."""
    versions = {1: ColourDescriber(), 2: second()}
    async with open_api(versions=versions, gate=OVERLAP, rollout_images=8) as api:
        await api.fill(*(item(id_, image) for id_, image in EXPECTED.items()))
        await start(api)
        ready = await reach(api, models.ROLLOUT_STAGE_READY)

        assert (ready.described_count, ready.missing_count) == (20, 0)
        assert versions[2].urgencies.count(Urgency.ROLLOUT) < len(EXPECTED) // 4


async def test_a_rollout_can_promote_itself(api: Api) -> None:
    """It does so as soon as its checks have passed."""
    await start(api, automatic=True, share=1.0)

    await reach(api, models.ROLLOUT_STAGE_PROMOTED)

    await assert_answers_from(api, 2, EXPECTED)


async def test_an_empty_collection_can_be_taken_along(place: Place) -> None:
    """There is nothing to compare."""
    async with place.open() as api:
        await start(api, automatic=True)
        await reach(api, models.ROLLOUT_STAGE_PROMOTED)
        await api.fill(item("a", TEMPLE))

        await assert_answers_from(api, 2, {"a": TEMPLE})


async def test_a_version_that_breaks_its_promise_is_refused(place: Place, api: Api) -> None:
    """The describer raises this for NaN, another length or another dimension."""
    place.versions[2].failure = BrokenModel("colours/2 answers with a descriptor that is not of unit length")
    await start(api)

    assert (await failed(api)).reason == "colours/2 answers with a descriptor that is not of unit length"
    await assert_answers_from(api, 1, EXPECTED)


async def test_a_version_that_hangs_is_given_up(place: Place, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write waits for it only a little."""
    monkeypatch.setattr(filling, "CALL_S", 0.1)
    monkeypatch.setattr(filling, "PATIENCE_S", 0.3)
    place.versions[2].may_answer.clear()
    await start(api)

    async with asyncio.timeout(60):
        await api.fill(item("new", FLOWER))
        refused = await failed(api)

    assert refused.reason.startswith("the version does not answer in time: ")
    await assert_answers_from(api, 1, EXPECTED | {"new": FLOWER})


async def test_a_rollout_can_be_aborted_at_any_time(api: Api) -> None:
    """It can be aborted while it describes, and when it is ready."""
    describer = api.server.versions[2]
    for ready in (False, True):
        if not ready:
            describer.may_answer.clear()
        await start(api)
        if ready:
            await reach(api, models.ROLLOUT_STAGE_READY)

        answer = await api.models.AbortRollout(models.AbortRolloutRequest())

        assert (answer.rollout.stage, answer.rollout.reason) == (models.ROLLOUT_STAGE_FAILED, "it was aborted")
        describer.may_answer.set()
    assert await states(api) == ["ACTIVE", "FAILED", "FAILED"]
    images = describer.images
    await api.fill(item("new", FLOWER))
    assert describer.images == images
    await assert_answers_from(api, 1, EXPECTED | {"new": FLOWER})


async def test_what_cannot_be_written_is_not_aborted(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rollout goes on, and can be aborted when there is room again."""
    describer = api.server.versions[2]
    describer.may_answer.clear()
    await start(api)
    await describer.entered.wait()
    end = api.server.catalog.end_generation

    async def refuse_once(*_: Any) -> None:
        monkeypatch.setattr(api.server.catalog, "end_generation", end)
        raise StorageFull("the server's disk is full")

    monkeypatch.setattr(api.server.catalog, "end_generation", refuse_once)

    refusal = await refuse(api.models.AbortRollout(models.AbortRolloutRequest()))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "STORAGE_FULL")
    describer.may_answer.set()
    async with asyncio.timeout(30):
        await reach(api, models.ROLLOUT_STAGE_READY)
    assert await states(api) == ["ACTIVE", "BUILDING"]
    answer = await api.models.AbortRollout(models.AbortRolloutRequest())
    assert answer.rollout.stage == models.ROLLOUT_STAGE_FAILED
    await assert_answers_from(api, 1, EXPECTED)


async def test_what_is_ready_stays_ready_where_it_cannot_be_aborted(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps its index and its canary."""
    await start(api, canary=1.0)
    await reach(api, models.ROLLOUT_STAGE_READY)
    tried, dropped = api.server.collections.trial(""), len(api.server.dropped)

    async def refuse_all(*_: Any) -> None:
        raise StorageFull("the server's disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(api.server.catalog, "end_generation", refuse_all)
        refusal = await refuse(api.models.AbortRollout(models.AbortRolloutRequest()))

    assert refusal.reason == "STORAGE_FULL"
    assert tried is not None
    assert (api.server.collections.trial(""), len(api.server.dropped)) == (tried, dropped)
    assert (await search(api, picture(0))).origin.model_version == 2
    await promote(api)
    await assert_answers_from(api, 2, EXPECTED)


async def test_what_waits_for_room_to_be_promoted_goes_on_where_it_cannot_be_aborted(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on as if nobody had tried."""

    async def refuse_all(*_: Any, **__: Any) -> None:
        raise StorageFull("the server's disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(api.server.catalog, "promote_generation", refuse_all)
        patched.setattr(api.server.catalog, "end_generation", refuse_all)
        await start(api, automatic=True)
        async for answer in api.models.WatchRollout(models.WatchRolloutRequest()):
            if "it waits" in answer.rollout.reason:
                break
        assert (await refuse(api.models.AbortRollout(models.AbortRolloutRequest()))).reason == "STORAGE_FULL"

    async with asyncio.timeout(60):
        await reach(api, models.ROLLOUT_STAGE_PROMOTED)
    await assert_answers_from(api, 2, EXPECTED)


@pytest.mark.parametrize("stage", ["describing", "ready", "kept"])
async def test_a_restart_goes_on(tmp_path: Path, stage: str) -> None:
    """It continues from any stage, with the writes that came meanwhile."""
    place = Place(tmp_path)
    expected = dict(EXPECTED)
    async with place.open() as api:
        await api.fill(*(item(id_, image) for id_, image in expected.items()))
        describer = place.versions[2]
        if stage == "describing":
            describer.may_answer.clear()
        await start(api, automatic=stage == "kept")
        if stage == "ready":
            await reach(api, models.ROLLOUT_STAGE_READY)
        elif stage == "kept":
            await reach(api, models.ROLLOUT_STAGE_PROMOTED)
        for id_, image in (("item-0", picture(300)), ("new", FLOWER)):
            await api.fill(item(id_, image))
            expected[id_] = image
        describer.may_answer.set()

    async with place.open() as api:
        if stage != "kept":
            await assert_answers_from(api, 1, expected)
            await reach(api, models.ROLLOUT_STAGE_READY)
            await promote(api)
        await assert_answers_from(api, 2, expected)
        await api.fill(item("newer", TEMPLE))
        await api.models.Rollback(models.RollbackRequest())
        await assert_answers_from(api, 1, expected | {"newer": TEMPLE})

    async with place.open() as api:
        await assert_answers_from(api, 1, expected | {"newer": TEMPLE})
        await api.models.Rollback(models.RollbackRequest())
        await assert_answers_from(api, 2, expected | {"newer": TEMPLE})


async def test_a_rollout_that_was_promoted_meanwhile_is_not_ended(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own promotion failed, the disk was too full to end it, and an operator who made room promoted it."""
    monkeypatch.setattr(runner, "_AGAIN_S", 0.3)
    catalog, met_full_disk = api.server.catalog, asyncio.Event()
    flip, end = Promoter.flip, catalog.end_generation

    async def fail(*_: Any) -> None:
        monkeypatch.setattr(Promoter, "flip", flip)
        raise BrokenModel("the version is ill")

    async def refuse_once(*given: Any) -> None:
        if not met_full_disk.is_set():
            met_full_disk.set()
            raise StorageFull("the disk is full")
        await end(*given)

    monkeypatch.setattr(Promoter, "flip", fail)
    monkeypatch.setattr(catalog, "end_generation", refuse_once)
    await start(api, automatic=True)
    await asyncio.wait_for(met_full_disk.wait(), 10)
    assert (await promote(api)).stage == models.ROLLOUT_STAGE_PROMOTED

    await asyncio.sleep(1)  # it would have tried again

    assert await states(api) == ["KEPT", "ACTIVE"]
    await assert_answers_from(api, 2, EXPECTED)


async def test_versions_of_one_named_space_are_still_two_versions() -> None:
    """Their descriptors may be compared, and a rollout leads from one to the other all the same."""
    versions = {number: ColourDescriber(version(number, space="shared")) for number in (1, 2)}
    async with Place(None, versions).open() as api:
        await api.fill(item("a", TEMPLE))
        await start(api, automatic=True)
        await reach(api, models.ROLLOUT_STAGE_PROMOTED)

        await assert_answers_from(api, 2, {"a": TEMPLE})
        refusal = await refuse(api.models.StartRollout(models.StartRolloutRequest(model_version=2)))
        assert "is what answers already" in refusal.status.message
