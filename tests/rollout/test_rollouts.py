"""What operators can ask for and are told, and deletions of collections with their rollouts, over a real channel."""

import asyncio

import grpc
import pytest

from pspsearch.errors import StorageFull
from pspsearch.v1 import collection_service_pb2 as collections
from pspsearch.v1 import model_service_pb2 as models
from pspsearch.v1 import resources_pb2 as resources
from pspsearch.v1 import search_service_pb2 as searches
from tests.fakes.describer import ColourDescriber, version
from tests.rollout.steps import EXPECTED, assert_answers_from, promote, start
from tests.servers.rollout_place import Place, reach
from tests.servers.rpc_client import FLOWER, Api, item, query, refuse


async def test_a_rollout_is_in_status_and_metrics(api: Api) -> None:
    """It is there until it has ended."""
    api.server.versions[2].may_answer.clear()
    await start(api)

    def told() -> float | None:
        labels = {"collection": "default", "version": "2", "stage": "describing"}
        return api.server.rpc.metrics.registry.get_sample_value("pspsearch_rollout_total", labels)

    async with asyncio.timeout(5):
        while told() != 20:
            await asyncio.sleep(0.01)
    state = (await api.collections.GetCollection(collections.GetCollectionRequest())).collection.state
    assert state.background == "rollout to colours/2: describing 0 %, 0/s, 0 s left"
    await api.models.AbortRollout(models.AbortRolloutRequest())
    state = (await api.collections.GetCollection(collections.GetCollectionRequest())).collection.state
    assert (state.background, told()) == ("", None)


async def test_versions_are_listed_and_refused(place: Place, api: Api) -> None:
    """A version that cannot be used says why, and is never chosen."""
    place.versions[3] = ColourDescriber(version(3))
    place.versions[3].reason = "its manifest is missing"

    listed = (await api.models.ListModelVersions(models.ListModelVersionsRequest())).versions

    assert [(one.version, one.usable, one.reason) for one in listed] == [
        (1, True, ""),
        (2, True, ""),
        (3, False, "its manifest is missing"),
    ]
    assert (list(listed[0].collections), list(listed[1].collections)) == (["default"], [])
    for number, words in ((3, "its manifest is missing"), (4, "no version 4")):
        refusal = await refuse(api.models.StartRollout(models.StartRolloutRequest(model_version=number)))
        assert refusal.code is grpc.StatusCode.FAILED_PRECONDITION
        assert words in refusal.status.message
    same = await refuse(api.models.StartRollout(models.StartRolloutRequest(model_version=1)))
    assert (same.code, same.status.message) == (grpc.StatusCode.INVALID_ARGUMENT, "colours/1 is what answers already")
    assert (await start(api)).origin.model_version == 2


async def test_calls_that_make_no_sense_are_refused(api: Api) -> None:
    """Each gets its own sentence."""
    nothing = await refuse(api.models.GetRollout(models.GetRolloutRequest()))
    assert nothing.code is grpc.StatusCode.NOT_FOUND
    for request in (models.PromoteRolloutRequest(), models.AbortRolloutRequest(), models.RollbackRequest()):
        assert (await refuse(api.send(request))).code is grpc.StatusCode.FAILED_PRECONDITION
    share = await refuse(api.models.StartRollout(models.StartRolloutRequest(share=1.5)))
    assert share.code is grpc.StatusCode.INVALID_ARGUMENT
    await start(api)
    again = await refuse(api.models.StartRollout(models.StartRolloutRequest()))
    assert again.code is grpc.StatusCode.ALREADY_EXISTS
    missing = await refuse(api.models.StartRollout(models.StartRolloutRequest(collection="none")))
    assert missing.code is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("stage", [models.ROLLOUT_STAGE_DESCRIBING, models.ROLLOUT_STAGE_READY])
async def test_a_collection_that_cannot_be_deleted_stays(
    api: Api, monkeypatch: pytest.MonkeyPatch, stage: "models.RolloutStage.ValueType"
) -> None:
    """Its rollout stays, too, as if nobody had tried."""
    describer = api.server.versions[2]
    if stage == models.ROLLOUT_STAGE_DESCRIBING:
        describer.may_answer.clear()
    await start(api)
    await describer.entered.wait()
    await reach(api, stage)
    delete = api.server.catalog.delete_collection

    async def refuse_once(_: int) -> int:
        monkeypatch.setattr(api.server.catalog, "delete_collection", delete)
        raise StorageFull("the server's disk is full")

    monkeypatch.setattr(api.server.catalog, "delete_collection", refuse_once)
    request = collections.DeleteCollectionRequest(name="default")

    refusal = await refuse(api.collections.DeleteCollection(request))

    assert refusal.reason == "STORAGE_FULL"
    describer.may_answer.set()
    await reach(api, models.ROLLOUT_STAGE_READY)
    await api.fill(item("new", FLOWER))
    await promote(api)
    await assert_answers_from(api, 2, EXPECTED | {"new": FLOWER})
    await api.collections.DeleteCollection(request)
    assert (await refuse(api.models.GetRollout(models.GetRolloutRequest()))).code is grpc.StatusCode.NOT_FOUND


async def test_a_collection_can_be_deleted_during_a_rollout(api: Api) -> None:
    """Nothing of it is left."""
    await start(api, automatic=True)
    await reach(api, models.ROLLOUT_STAGE_PROMOTED)
    api.server.versions[3] = ColourDescriber(version(3), 9)
    api.server.versions[3].may_answer.clear()
    await start(api)

    await api.collections.DeleteCollection(collections.DeleteCollectionRequest(name="default"))

    assert (await refuse(api.models.GetRollout(models.GetRolloutRequest()))).code is grpc.StatusCode.NOT_FOUND
    assert {1, 2} <= {generation.version for generation in api.server.dropped}


@pytest.mark.parametrize("generation", ["active", "kept"])
async def test_who_waits_for_callers_holds_nobody_else_up(api: Api, generation: str) -> None:
    """A deletion waits for a slow search; meanwhile collections are created and deleted, and rollouts begin."""
    slow = api.server.versions[1]
    await api.collections.CreateCollection(
        collections.CreateCollectionRequest(collection=resources.Collection(name="birds"))
    )
    if generation == "kept":
        await start(api)
        await reach(api, models.ROLLOUT_STAGE_READY)
    slow.entered.clear()
    slow.may_answer.clear()
    search = asyncio.ensure_future(api.search.Search(searches.SearchRequest(query=query(image=FLOWER))))
    await slow.entered.wait()
    if generation == "kept":  # the search has begun on a generation that is no longer active
        await promote(api)
    deletion = asyncio.ensure_future(
        api.collections.DeleteCollection(collections.DeleteCollectionRequest(name="default"))
    )
    async with asyncio.timeout(10):
        while [live.collection.name for live in api.server.collections.all()] != ["birds"]:
            await asyncio.sleep(0.01)

        await api.models.StartRollout(models.StartRolloutRequest(collection="birds", model_version=2))
        await api.models.AbortRollout(models.AbortRolloutRequest(collection="birds"))
        for name, request in (("ants", "Create"), ("birds", "Delete"), ("ants", "Delete")):
            if request == "Create":
                made = resources.Collection(name=name)
                await api.collections.CreateCollection(collections.CreateCollectionRequest(collection=made))
            else:
                await api.collections.DeleteCollection(collections.DeleteCollectionRequest(name=name))
    assert not deletion.done()

    slow.may_answer.set()
    answer = await search
    deleted = await deletion

    assert answer.origin.model_version == 1
    assert deleted.deleted_count == 20
    assert await api.server.catalog.collections() == []
