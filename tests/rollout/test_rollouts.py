"""Rollouts over a real channel: with fakes at the ports, and with a real catalog and real indexes."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from pspsearch.call import Call
from pspsearch.config import GateSettings
from pspsearch.describe import queries as describing
from pspsearch.describe.decoding import Decoder
from pspsearch.domain import Described, Generation, Inputs, OfferedVersion, Pixels
from pspsearch.errors import BrokenModel, DamagedImage, InvalidRequest, StorageFull, TritonUnavailable
from pspsearch.model.contract import InputShape
from pspsearch.rollout import filling
from pspsearch.rollout.rollout import Rollout
from pspsearch.v1 import collection_service_pb2 as collections
from pspsearch.v1 import item_service_pb2 as items
from pspsearch.v1 import model_service_pb2 as models
from pspsearch.v1 import resources_pb2 as resources
from pspsearch.v1 import search_service_pb2 as searches
from tests.fakes.describer import ColourDescriber, describe_pixels, version
from tests.servers.rollout_place import Place, picture, reach, second
from tests.servers.rpc_client import FLOWER, TEMPLE, Api, item, query, refuse


class Collapsed(ColourDescriber):
    """To which all images look alike."""

    async def describe(self, inputs: Inputs, *, cells: bool = False, timeout_s: float | None = None) -> Described:
        """The same row for each."""
        described = await super().describe(inputs, timeout_s=timeout_s)
        return Described(np.tile(describe_pixels(np.zeros((32, 32, 3), np.uint8)), (len(described.descriptors), 1)))


class Forgetful(ColourDescriber):
    """Whose neighbours have nothing to do with what the images are like."""

    async def describe(self, inputs: Inputs, *, cells: bool = False, timeout_s: float | None = None) -> Described:
        """Random, but the same for the same image."""
        await super().describe(inputs, timeout_s=timeout_s)
        rows = [np.random.default_rng(int(np.sum(one))).standard_normal(16) for one in inputs]
        return Described(np.stack([row / np.linalg.norm(row) for row in rows]).astype(np.float32))


class Slow(ColourDescriber):
    """That takes its time."""

    async def describe(self, inputs: Inputs, *, cells: bool = False, timeout_s: float | None = None) -> Described:
        """After a while."""
        await asyncio.sleep(0.02)
        return await super().describe(inputs, timeout_s=timeout_s)


@pytest.fixture(params=["memory", "real"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """With two versions."""
    return Place(tmp_path if request.param == "real" else None)


@pytest.fixture
async def api(place: Place) -> AsyncIterator[Api]:
    """A server with 20 items."""
    async with place.open() as api:
        await api.fill(*(item(f"item-{number}", picture(number)) for number in range(20)))
        yield api


async def start(api: Api, **options: Any) -> models.Rollout:
    """A rollout of the default collection."""
    return (await api.models.StartRollout(models.StartRolloutRequest(**options))).rollout


async def failed(api: Api) -> models.Rollout:
    """The rollout when it has failed."""
    answers = [answer.rollout async for answer in api.models.WatchRollout(models.WatchRolloutRequest())]
    assert answers[-1].stage == models.ROLLOUT_STAGE_FAILED
    return answers[-1]


async def promote(api: Api, **options: Any) -> models.Rollout:
    """A rollout that is ready."""
    return (await api.models.PromoteRollout(models.PromoteRolloutRequest(**options))).rollout


async def search(api: Api, image: bytes, limit: int = 5) -> searches.SearchResponse:
    """In the default collection."""
    options = searches.SearchOptions(limit=limit)
    return await api.search.Search(searches.SearchRequest(query=query(image=image), options=options))


async def states(api: Api) -> list[str]:
    """Of the default collection's generations."""
    answer = await api.models.ListGenerations(models.ListGenerationsRequest())
    return [models.GenerationState.Name(one.state).removeprefix("GENERATION_STATE_") for one in answer.generations]


async def assert_answers_from(api: Api, number: int, expected: dict[str, bytes]) -> None:
    """Every item finds itself first, in that version's space, and nothing else is there."""
    for id_, image in expected.items():
        answer = await search(api, image, 1000)
        assert answer.origin.model_version == number
        assert answer.origin.fingerprint == api.server.versions[number].version.contract.fingerprint
        assert answer.hits[0].id == id_
        assert answer.hits[0].score == pytest.approx(1, abs=1e-3)
        assert {hit.id for hit in answer.hits} == expected.keys()


EXPECTED = {f"item-{number}": picture(number) for number in range(20)}


async def test_a_rollout_is_described_checked_and_promoted(api: Api) -> None:
    """Nothing that answers changes until then, and all of it then."""
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


async def test_a_rollout_is_in_status_and_metrics(api: Api) -> None:
    """Until it has ended."""
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


async def test_a_rollout_can_promote_itself(api: Api) -> None:
    """As soon as its checks have passed."""
    await start(api, automatic=True, share=1.0)

    await reach(api, models.ROLLOUT_STAGE_PROMOTED)

    await assert_answers_from(api, 2, EXPECTED)


async def test_a_hand_that_is_quicker_promotes_once(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between being ready and promoting itself: the generation that is kept stays what it was."""
    rollouts, catalog = api.server.rollouts, api.server.catalog
    looks, may_look, asked = asyncio.Event(), asyncio.Event(), asyncio.Event()
    look, note, by_hand, queue = rollouts.look, catalog.note_generation, rollouts.promote, list[asyncio.Task[Any]]()

    async def look_later(model: str) -> Sequence[OfferedVersion]:
        looks.set()
        await may_look.wait()
        return await look(model)

    async def promote_by_hand(collection: str, *, drop_missing: bool = False) -> Rollout:
        asked.set()
        return await by_hand(collection, drop_missing=drop_missing)

    async def note_behind_the_hand(generation: Generation, details: str) -> None:
        monkeypatch.setattr(catalog, "note_generation", note)
        monkeypatch.setattr(rollouts, "look", look_later)
        monkeypatch.setattr(rollouts, "promote", promote_by_hand)
        queue.append(asyncio.create_task(start(api)))
        await looks.wait()  # and keeps the others waiting
        queue.append(asyncio.create_task(promote(api)))
        await asked.wait()
        await asyncio.sleep(0)  # it is in the queue
        await note(generation, details)

    monkeypatch.setattr(catalog, "note_generation", note_behind_the_hand)
    await start(api, automatic=True)
    await reach(api, models.ROLLOUT_STAGE_READY)
    may_look.set()

    refused, promoted = await asyncio.gather(*queue, return_exceptions=True)
    assert isinstance(refused, grpc.aio.AioRpcError)
    assert isinstance(promoted, models.Rollout)
    assert promoted.stage == models.ROLLOUT_STAGE_PROMOTED

    await api.models.Rollback(models.RollbackRequest())
    await assert_answers_from(api, 1, EXPECTED)


async def test_recent_queries_are_tried(api: Api) -> None:
    """What was searched for by image is a check of its own."""
    await search(api, TEMPLE)
    await start(api)

    ready = await reach(api, models.ROLLOUT_STAGE_READY)

    assert [check.passed for check in ready.checks if check.name == "overlap on queries"] == [True]


async def test_writes_reach_both_versions_all_the_time(api: Api) -> None:
    """While it is described, when it is ready, and after it was promoted: so that a rollback has them, too."""
    expected = dict(EXPECTED)

    async def write(number: int) -> None:
        for id_, image in ((f"new-{number}", picture(100 + number)), (f"item-{number}", picture(200 + number))):
            await api.fill(item(id_, image))
            expected[id_] = image
        await api.items.DeleteItems(items.DeleteItemsRequest(ids=[f"item-{number + 10}"]))
        del expected[f"item-{number + 10}"]

    describer = api.server.versions[2]
    describer.may_answer.clear()
    await start(api)
    await describer.entered.wait()
    await write(0)  # while the version does not answer: it is described later
    describer.may_answer.set()
    await reach(api, models.ROLLOUT_STAGE_READY)
    await write(1)
    await promote(api)
    await write(2)
    await assert_answers_from(api, 2, expected)

    origin = (await api.models.Rollback(models.RollbackRequest())).origin

    assert origin.model_version == 1
    await assert_answers_from(api, 1, expected)
    await write(3)
    await assert_answers_from(api, 1, expected)
    await api.models.Rollback(models.RollbackRequest())
    await assert_answers_from(api, 2, expected)


async def test_what_a_version_could_not_describe_is_described_later(api: Api) -> None:
    """A write never fails because of a version that does not answer yet."""
    await start(api)
    await reach(api, models.ROLLOUT_STAGE_READY)
    describer = api.server.versions[2]
    describer.failure = TritonUnavailable("Triton is away")

    await api.fill(item("late", FLOWER))
    lacking = items.ListItemsRequest(not_in_generation=2)
    assert [one.id for one in (await api.items.ListItems(lacking)).items] == ["late"]
    describer.failure = None
    async with asyncio.timeout(30):
        while (await api.items.ListItems(lacking)).items:
            await asyncio.sleep(0.01)
    await promote(api)

    await assert_answers_from(api, 2, EXPECTED | {"late": FLOWER})


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (Collapsed(version(2)), "collapse is 1, bound 0.95"),
        (Forgetful(version(2)), "overlap is 0."),
    ],
    ids=["collapsed", "forgetful"],
)
async def test_a_bad_version_is_refused_by_the_gate(place: Place, api: Api, bad: ColourDescriber, words: str) -> None:
    """It says why, nothing that answers has changed, and another rollout can begin."""
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


async def test_a_version_that_breaks_its_promise_is_refused(place: Place, api: Api) -> None:
    """NaN, another length or another dimension is what the describer raises this for."""
    place.versions[2].failure = BrokenModel("colours/2 answers with a descriptor that is not of unit length")
    await start(api)

    assert (await failed(api)).reason == "colours/2 answers with a descriptor that is not of unit length"
    await assert_answers_from(api, 1, EXPECTED)


async def test_a_slow_version_is_refused(tmp_path: Path) -> None:
    """Against the one that answers."""
    place = Place(tmp_path, {1: ColourDescriber(), 2: Slow(version(2))}, GateSettings(gate_overlap=0.0))
    async with place.open() as api:
        await api.fill(item("a", TEMPLE))
        await start(api)

        assert "latency is" in (await failed(api)).reason


async def test_labels_can_be_a_check(tmp_path: Path) -> None:
    """How often the nearest other item has the same label."""
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


async def test_an_empty_collection_can_be_taken_along(place: Place) -> None:
    """There is nothing to be compared."""
    async with place.open() as api:
        await start(api, automatic=True)
        await reach(api, models.ROLLOUT_STAGE_PROMOTED)
        await api.fill(item("a", TEMPLE))

        await assert_answers_from(api, 2, {"a": TEMPLE})


async def test_items_without_images_are_the_operators_decision(api: Api) -> None:
    """Counted, refused, put in again or dropped; a rollback finds all of them."""
    point = (await api.search.Describe(searches.DescribeRequest(image=FLOWER))).descriptor
    await api.fill(items.ItemInput(id="by-descriptor", descriptor=point))
    await start(api, automatic=True)
    ready = await reach(api, models.ROLLOUT_STAGE_READY)
    assert ready.missing_count == 1

    refusal = await refuse(api.models.PromoteRollout(models.PromoteRolloutRequest()))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "ROLLOUT_REFUSED")
    assert refusal.status.message.startswith("1 items have no kept image")
    await promote(api, drop_missing=True)
    await assert_answers_from(api, 2, EXPECTED)
    assert len(await api.list_all()) == 21
    await api.fill(item("by-descriptor", FLOWER))
    await assert_answers_from(api, 2, EXPECTED | {"by-descriptor": FLOWER})
    await api.models.Rollback(models.RollbackRequest())
    await assert_answers_from(api, 1, EXPECTED | {"by-descriptor": FLOWER})


async def test_items_without_images_are_listed(api: Api) -> None:
    """Page by page; of one generation, and without a filter."""
    point = (await api.search.Describe(searches.DescribeRequest(image=FLOWER))).descriptor
    await api.fill(*(items.ItemInput(id=f"point-{number}", descriptor=point) for number in range(5)))
    await start(api)
    generation = (await reach(api, models.ROLLOUT_STAGE_READY)).origin.generation

    listed: list[str] = []
    page = items.ListItemsResponse(next_page_token="")
    while page.next_page_token or not listed:
        request = items.ListItemsRequest(not_in_generation=generation, page_size=2, page_token=page.next_page_token)
        page = await api.items.ListItems(request)
        listed += [one.id for one in page.items]

    assert listed == [f"point-{number}" for number in range(5)]
    none = await refuse(api.items.ListItems(items.ListItemsRequest(not_in_generation=generation + 1)))
    assert (none.code, none.status.message) == (
        grpc.StatusCode.NOT_FOUND,
        f"the collection has no generation {generation + 1}",
    )
    both = await refuse(api.items.ListItems(items.ListItemsRequest(not_in_generation=generation, filter="a = 1")))
    assert both.code is grpc.StatusCode.INVALID_ARGUMENT


async def ready_without_images(api: Api) -> items.UpsertItemsRequest:
    """A rollout of a collection `thrifty` that keeps no images, and what is in it."""
    made = resources.Collection(name="thrifty", keep_images=False)
    await api.collections.CreateCollection(collections.CreateCollectionRequest(collection=made))
    put = items.UpsertItemsRequest(collection="thrifty", items=[item("a", TEMPLE)])
    await api.items.UpsertItems(put)
    await start(api, collection="thrifty")
    async for answer in api.models.WatchRollout(models.WatchRolloutRequest(collection="thrifty")):
        if answer.rollout.stage == models.ROLLOUT_STAGE_READY:
            break
    return put


async def test_what_was_dropped_comes_again(place: Place) -> None:
    """Also when nothing is left of the version that knew it."""
    async with place.open() as api:
        put = await ready_without_images(api)
        await promote(api, collection="thrifty", drop_missing=True)
        await api.models.RetireGeneration(models.RetireGenerationRequest(collection="thrifty"))

        await api.items.UpsertItems(put)

        found = await api.search.Search(searches.SearchRequest(collection="thrifty", query=query(image=TEMPLE)))
        assert (found.origin.model_version, [hit.id for hit in found.hits]) == (2, ["a"])


async def test_images_that_cannot_be_read_any_more_are_the_operators_decision(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those that were not kept are; a bound may be lower now, or a decoder more strict."""
    decode, lost = Decoder.decode, picture(3)

    async def decode_others(
        self: Decoder, images: Sequence[bytes], shape: InputShape | None, call: Call
    ) -> list[Pixels | bytes | InvalidRequest]:
        decoded = await decode(self, images, shape, call)
        return [DamagedImage("lost") if one == lost else pixels for one, pixels in zip(images, decoded, strict=True)]

    monkeypatch.setattr(Decoder, "decode", decode_others)
    await start(api)
    assert (await reach(api, models.ROLLOUT_STAGE_READY)).missing_count == 1

    refusal = await refuse(api.models.PromoteRollout(models.PromoteRolloutRequest()))

    assert refusal.status.message.startswith("1 items have no kept image, or one that cannot be read any more")
    assert (await promote(api, drop_missing=True)).missing_count == 1
    await assert_answers_from(api, 2, {id_: image for id_, image in EXPECTED.items() if image != lost})


async def test_images_that_are_not_kept_come_again(place: Place) -> None:
    """The same image put in again is described for the version that lacks it."""
    async with place.open() as api:
        put = await ready_without_images(api)
        refusal = await refuse(api.models.PromoteRollout(models.PromoteRolloutRequest(collection="thrifty")))
        assert "1 items" in refusal.status.message

        answer = await api.items.UpsertItems(put)

        assert answer.results[0].outcome == items.UPSERT_OUTCOME_UNCHANGED
        await promote(api, collection="thrifty")
        found = await api.search.Search(searches.SearchRequest(collection="thrifty", query=query(image=TEMPLE)))
        assert (found.origin.model_version, [hit.id for hit in found.hits]) == (2, ["a"])


async def test_a_rollout_can_be_aborted_at_any_time(api: Api) -> None:
    """While it is described, and when it is ready."""
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
    """With its index and its canary."""
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
    """As if nobody had tried."""

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


@pytest.mark.parametrize("stage", [models.ROLLOUT_STAGE_DESCRIBING, models.ROLLOUT_STAGE_READY])
async def test_a_collection_that_cannot_be_deleted_stays(
    api: Api, monkeypatch: pytest.MonkeyPatch, stage: "models.RolloutStage.ValueType"
) -> None:
    """With its rollout, as if nobody had tried."""
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


async def test_what_is_retired_is_gone(api: Api) -> None:
    """There is no way back, and writes do not reach it."""
    await start(api, automatic=True)
    await reach(api, models.ROLLOUT_STAGE_PROMOTED)

    origin = (await api.models.RetireGeneration(models.RetireGenerationRequest())).origin

    assert origin.model_version == 1
    assert await states(api) == ["RETIRED", "ACTIVE"]
    for request in (models.RollbackRequest(), models.RetireGenerationRequest()):
        assert (await refuse(api.send(request))).code is grpc.StatusCode.FAILED_PRECONDITION
    images = api.server.versions[1].images
    await api.fill(item("new", FLOWER))
    assert api.server.versions[1].images == images


async def test_another_promotion_retires_what_was_kept(place: Place, api: Api) -> None:
    """One generation is kept at a time."""
    place.versions[3] = ColourDescriber(version(3), 9)
    for number in (2, 3):
        await start(api, automatic=True, model_version=number)
        await reach(api, models.ROLLOUT_STAGE_PROMOTED)

    assert await states(api) == ["RETIRED", "KEPT", "ACTIVE"]
    await assert_answers_from(api, 3, EXPECTED)
    await api.models.Rollback(models.RollbackRequest())
    await assert_answers_from(api, 2, EXPECTED)


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


async def follow(api: Api, *, follow: bool = True) -> resources.Collection:
    """The default collection."""
    return (await api.models.FollowModel(models.FollowModelRequest(follow=follow))).collection


async def test_a_collection_is_pinned_until_it_follows(place: Place, api: Api) -> None:
    """As soon as a version is seen; it goes on following under the new one, and no more when it is pinned again."""
    await api.server.rollouts.look_for_news("colours")
    assert await states(api) == ["ACTIVE"]

    assert (await follow(api)).follows_model
    await api.server.rollouts.look_for_news("colours")
    await reach(api, models.ROLLOUT_STAGE_PROMOTED)
    await assert_answers_from(api, 2, EXPECTED)

    assert (await api.collections.GetCollection(collections.GetCollectionRequest())).collection.follows_model
    assert not (await follow(api, follow=False)).follows_model
    place.versions[3] = ColourDescriber(version(3), 7)
    await api.server.rollouts.look_for_news("colours")
    await assert_answers_from(api, 2, EXPECTED)


async def test_a_collection_follows_after_a_restart(tmp_path: Path) -> None:
    """What was said is kept."""
    place = Place(tmp_path)
    async with place.open() as api:
        await api.fill(item("a", TEMPLE))
        await follow(api)
    async with place.open() as api:
        await api.server.rollouts.look_for_news("colours")
        await reach(api, models.ROLLOUT_STAGE_PROMOTED)


async def test_who_follows_takes_no_version_twice(tmp_path: Path) -> None:
    """One that was taken back stays back, one that failed is not tried again, and one that cannot be used never."""
    place = Place(tmp_path)
    async with place.open() as api:
        await follow(api)
        await api.fill(*(item(id_, image) for id_, image in EXPECTED.items()))
        await api.server.rollouts.look_for_news("colours")
        await reach(api, models.ROLLOUT_STAGE_PROMOTED)
        await api.models.Rollback(models.RollbackRequest())
        place.versions[3] = Collapsed(version(3))
        place.versions[4] = ColourDescriber(version(4))
        place.versions[4].reason = "it is broken"
        await api.server.rollouts.look_for_news("colours")
        assert (await failed(api)).origin.model_version == 3
        before = await states(api)

        await api.server.rollouts.look_for_news("colours")
        del place.versions[3]
        await api.server.rollouts.look_for_news("colours")

        assert await states(api) == before == ["ACTIVE", "KEPT", "FAILED"]


async def test_calls_that_make_no_sense_are_refused(api: Api) -> None:
    """Each with its sentence."""
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
    """A deletion that waits for a slow search: collections are made and deleted meanwhile, and rollouts begun."""
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
    if generation == "kept":  # the search has begun on what answers no more
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


async def test_no_answer_is_of_two_versions(api: Api) -> None:
    """Searches that go on all the time, while it is promoted and taken back, each agree with brute force in a space."""
    images = [picture(number) for number in range(20)]
    answered, newest, stop = asyncio.Event(), 0, False

    async def search_on() -> None:
        nonlocal newest
        while not stop:
            batch = searches.BatchSearchRequest(
                queries=[query(image=image) for image in images[:5]], options=searches.SearchOptions(limit=20)
            )
            answer = await api.search.BatchSearch(batch)
            describer = api.server.versions[answer.origin.model_version]
            assert answer.origin.fingerprint == describer.version.contract.fingerprint
            newest = answer.origin.model_version
            answered.set()
            for number, result in enumerate(answer.results):
                assert result.hits[0].id == f"item-{number}"
                assert result.hits[0].score == pytest.approx(1, abs=1e-3)
                assert len(result.hits) == 20

    tasks = [asyncio.create_task(search_on()) for _ in range(4)]
    await start(api, automatic=True)
    await reach(api, models.ROLLOUT_STAGE_PROMOTED)
    for _ in range(10):
        origin = (await api.models.Rollback(models.RollbackRequest())).origin
        while newest != origin.model_version:
            answered.clear()
            await asyncio.wait((asyncio.create_task(answered.wait()), *tasks), return_when=asyncio.FIRST_COMPLETED)
            assert not any(task.done() for task in tasks)
    stop = True

    await asyncio.gather(*tasks)


async def assert_released(api: Api, *expected: int, dropped: int) -> None:
    """The versions that nobody needs any more; a generation of that one is closed a moment after it has ended."""
    async with asyncio.timeout(60):
        while len(api.server.released) < len(expected) or dropped not in [one.version for one in api.server.dropped]:
            await asyncio.sleep(0.01)
    assert api.server.released == [*expected]


async def test_a_version_is_let_go_when_no_collection_needs_it(place: Place, api: Api) -> None:
    """Whichever way its last generation went."""
    wanted = resources.Collection(name="birds")
    await api.collections.CreateCollection(collections.CreateCollectionRequest(collection=wanted))
    await start(api)
    await reach(api, models.ROLLOUT_STAGE_READY)
    await api.models.AbortRollout(models.AbortRolloutRequest())
    await assert_released(api, 2, dropped=2)

    await start(api)
    await reach(api, models.ROLLOUT_STAGE_READY)
    assert (await refuse(api.models.StartRollout(models.StartRolloutRequest()))).code is grpc.StatusCode.ALREADY_EXISTS
    await promote(api)
    await api.models.RetireGeneration(models.RetireGenerationRequest())
    await assert_released(api, 2, dropped=1)  # birds are under version 1

    await api.collections.DeleteCollection(collections.DeleteCollectionRequest(name="birds"))
    await assert_released(api, 2, 1, dropped=1)
    place.versions[3] = second(7)
    place.versions[3].version = version(3)
    place.versions[3].may_answer.clear()
    await start(api, model_version=3)
    await api.models.AbortRollout(models.AbortRolloutRequest())
    await assert_released(api, 2, 1, 3, dropped=1)
    await assert_answers_from(api, 2, EXPECTED)


async def test_who_leaves_a_promotion_leaves_it_whole(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is on disk it is going to answer."""
    on_disk, left, catalog = asyncio.Event(), asyncio.Event(), api.server.catalog
    promote_on_disk = catalog.promote_generation

    async def promote_and_linger(generation: Generation, since: int, details: str, *, lacking: bool = False) -> bool:
        promoted = await promote_on_disk(generation, since, details, lacking=lacking)
        on_disk.set()
        await left.wait()
        return promoted

    monkeypatch.setattr(catalog, "promote_generation", promote_and_linger)
    await start(api)
    await reach(api, models.ROLLOUT_STAGE_READY)
    call = asyncio.create_task(api.server.rollouts.promote("default"))
    await on_disk.wait()

    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    left.set()

    await reach(api, models.ROLLOUT_STAGE_PROMOTED)
    await assert_answers_from(api, 2, EXPECTED)


async def test_a_version_that_hangs_is_given_up(place: Place, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a write waits for it only a little."""
    monkeypatch.setattr(filling, "CALL_S", 0.1)
    monkeypatch.setattr(filling, "PATIENCE_S", 0.3)
    place.versions[2].may_answer.clear()
    await start(api)

    async with asyncio.timeout(60):
        await api.fill(item("new", FLOWER))
        refused = await failed(api)

    assert refused.reason.startswith("the version does not answer in time: ")
    await assert_answers_from(api, 1, EXPECTED | {"new": FLOWER})


async def test_a_write_waits_a_little_for_a_version_that_is_slow(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """And has its descriptor with it then, so that nothing is described again."""
    monkeypatch.setattr(describing, "_GRACE_S", 60.0)
    await start(api)
    await reach(api, models.ROLLOUT_STAGE_READY)
    describer = api.server.versions[2]
    describer.may_answer.clear()
    describer.entered.clear()
    images = describer.images

    writing = asyncio.create_task(api.fill(item("new", FLOWER)))
    await describer.entered.wait()
    describer.may_answer.set()
    await writing

    lacking = items.ListItemsRequest(not_in_generation=2)
    assert list((await api.items.ListItems(lacking)).items) == []
    assert describer.images == images + 1


@pytest.mark.parametrize("stage", ["describing", "ready", "kept"])
async def test_a_restart_goes_on(tmp_path: Path, stage: str) -> None:
    """From whatever the rollout had reached, with the writes that came meanwhile."""
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
