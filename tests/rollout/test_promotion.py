"""Promotions and rollbacks, and the generation kept for them, over a real channel."""

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
import pytest

from pspsearch.call import Call
from pspsearch.describe.decoding import Decoder
from pspsearch.domain import Generation, OfferedVersion, Pixels
from pspsearch.errors import DamagedImage, InvalidRequest
from pspsearch.model.contract import InputShape
from pspsearch.query import ImageQuery
from pspsearch.rollout.offers import Offers
from pspsearch.rollout.rollout import Rollout
from pspsearch.v1 import collection_service_pb2 as collections
from pspsearch.v1 import item_service_pb2 as items
from pspsearch.v1 import model_service_pb2 as models
from pspsearch.v1 import resources_pb2 as resources
from pspsearch.v1 import search_service_pb2 as searches
from tests.fakes.describer import ColourDescriber, version
from tests.rollout.steps import EXPECTED, assert_answers_from, promote, start, states
from tests.servers.rollout_place import Place, picture, reach, second
from tests.servers.rpc_client import FLOWER, TEMPLE, Api, item, query, refuse


async def test_a_hand_that_is_quicker_promotes_once(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator promotes between the automatic rollout's being ready and its own promotion.

    The kept generation stays.
    """
    rollouts, catalog = api.server.rollouts, api.server.catalog
    looks, may_look, asked = asyncio.Event(), asyncio.Event(), asyncio.Event()
    look, note, by_hand, queue = Offers.look, catalog.note_generation, rollouts.promote, list[asyncio.Task[Any]]()

    async def look_later(self: Offers, model: str) -> Sequence[OfferedVersion]:
        looks.set()
        await may_look.wait()
        return await look(self, model)

    async def promote_by_hand(collection: str, *, drop_missing: bool = False) -> Rollout:
        asked.set()
        return await by_hand(collection, drop_missing=drop_missing)

    async def note_behind_the_hand(generation: Generation, details: str) -> None:
        monkeypatch.setattr(catalog, "note_generation", note)
        monkeypatch.setattr(Offers, "look", look_later)
        monkeypatch.setattr(rollouts, "promote", promote_by_hand)
        queue.append(asyncio.create_task(start(api)))
        await looks.wait()  # keeps the other calls waiting
        queue.append(asyncio.create_task(promote(api)))
        await asked.wait()
        await asyncio.sleep(0)  # now it is in the queue
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


async def test_items_without_images_are_the_operators_decision(api: Api) -> None:
    """They are counted, refused, put in again or dropped; a rollback finds all of them."""
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
    """They come page by page, for one generation, and without a filter."""
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
    """Makes a ready rollout of a collection `thrifty` that keeps no images, and returns what is in it."""
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
    """This holds even if nothing is left of the version that knew it."""
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
    """They are treated like images not kept; a bound may be lower now, or a decoder stricter."""
    decode, lost = Decoder.decode, picture(3)

    async def decode_others(
        self: Decoder, images: Sequence[ImageQuery], shape: InputShape, call: Call
    ) -> list[Pixels | InvalidRequest]:
        decoded = await decode(self, images, shape, call)
        return [
            DamagedImage("lost") if one.image == lost else pixels for one, pixels in zip(images, decoded, strict=True)
        ]

    monkeypatch.setattr(Decoder, "decode", decode_others)
    await start(api)
    assert (await reach(api, models.ROLLOUT_STAGE_READY)).missing_count == 1

    refusal = await refuse(api.models.PromoteRollout(models.PromoteRolloutRequest()))

    assert refusal.status.message.startswith("1 items have no kept image, or one that cannot be read any more")
    assert (await promote(api, drop_missing=True)).missing_count == 1
    await assert_answers_from(api, 2, {id_: image for id_, image in EXPECTED.items() if image != lost})


async def test_images_that_are_not_kept_come_again(place: Place) -> None:
    """An image that is put in again is described for the version that lacks it."""
    async with place.open() as api:
        put = await ready_without_images(api)
        refusal = await refuse(api.models.PromoteRollout(models.PromoteRolloutRequest(collection="thrifty")))
        assert "1 items" in refusal.status.message

        answer = await api.items.UpsertItems(put)

        assert answer.results[0].outcome == items.UPSERT_OUTCOME_UNCHANGED
        await promote(api, collection="thrifty")
        found = await api.search.Search(searches.SearchRequest(collection="thrifty", query=query(image=TEMPLE)))
        assert (found.origin.model_version, [hit.id for hit in found.hits]) == (2, ["a"])


async def test_what_is_retired_is_gone(api: Api) -> None:
    """There is no rollback, and writes do not reach it."""
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
    """Only one generation is kept at a time."""
    place.versions[3] = ColourDescriber(version(3), 9)
    for number in (2, 3):
        await start(api, automatic=True, model_version=number)
        await reach(api, models.ROLLOUT_STAGE_PROMOTED)

    assert await states(api) == ["RETIRED", "KEPT", "ACTIVE"]
    await assert_answers_from(api, 3, EXPECTED)
    await api.models.Rollback(models.RollbackRequest())
    await assert_answers_from(api, 2, EXPECTED)


async def test_no_answer_is_of_two_versions(api: Api) -> None:
    """Searches that go on during a promotion and a rollback each agree with brute force in one space."""
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
    """Asserts which versions were released.

    It waits until the generation of version `dropped` is closed, a moment after its end.
    """
    async with asyncio.timeout(60):
        while len(api.server.released) < len(expected) or dropped not in [one.version for one in api.server.dropped]:
            await asyncio.sleep(0.01)
    await api.server.collections.finished()  # it lets go of its version after that
    assert api.server.released == [*expected]


async def test_a_version_is_let_go_when_no_collection_needs_it(place: Place, api: Api) -> None:
    """This holds however its last generation ended."""
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
    await assert_released(api, 2, dropped=1)  # the collection of birds is under version 1

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
    """Once it is on disk, it will answer."""
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
