"""Writes that reach several generations, at once or a little later, over a real channel."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from pspsearch.describe import queries as describing
from pspsearch.domain import Written
from pspsearch.errors import StorageFull, TritonUnavailable
from pspsearch.v1 import collection_service_pb2 as collections
from pspsearch.v1 import item_service_pb2 as items
from pspsearch.v1 import model_service_pb2 as models
from tests.rollout.steps import EXPECTED, assert_answers_from, promote, start
from tests.servers.rollout_place import picture, reach
from tests.servers.rpc_client import FLOWER, Api, item, refuse


async def all_are_described(api: Api) -> None:
    """Waits until every item is described for the second generation."""
    lacking = items.ListItemsRequest(not_in_generation=2)
    async with asyncio.timeout(30):
        while (await api.items.ListItems(lacking)).items:
            await asyncio.sleep(0.01)


async def test_writes_reach_both_versions_all_the_time(api: Api) -> None:
    """They do while it is described, when it is ready, and after its promotion, so that a rollback has them, too."""
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
    await write(0)  # the version does not answer now, so it is described later
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
    """A write never fails because a version does not answer yet."""
    await start(api)
    await reach(api, models.ROLLOUT_STAGE_READY)
    describer = api.server.versions[2]
    describer.failure = TritonUnavailable("Triton is away")

    await api.fill(item("late", FLOWER))
    lacking = items.ListItemsRequest(not_in_generation=2)
    assert [one.id for one in (await api.items.ListItems(lacking)).items] == ["late"]
    describer.failure = None
    await all_are_described(api)
    await promote(api)

    await assert_answers_from(api, 2, EXPECTED | {"late": FLOWER})


async def test_a_write_waits_a_little_for_a_version_that_is_slow(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The write then stores that version's descriptor, so nothing is described again."""
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


async def test_a_write_that_began_before_a_rollout_is_described_for_it_later(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it began it knew of no generation but the active one."""
    began, may_write, write = asyncio.Event(), asyncio.Event(), api.server.catalog.write

    async def linger(*given: Any, **named: Any) -> Sequence[Written]:
        began.set()
        await may_write.wait()
        return await write(*given, **named)

    with monkeypatch.context() as patched:
        patched.setattr(api.server.catalog, "write", linger)
        writing = asyncio.create_task(api.fill(item("late", FLOWER)))
        await began.wait()
    await start(api)
    await reach(api, models.ROLLOUT_STAGE_READY)

    may_write.set()
    await writing

    await all_are_described(api)
    await promote(api)
    await assert_answers_from(api, 2, EXPECTED | {"late": FLOWER})


async def test_a_write_that_ended_while_its_collection_could_not_be_deleted_is_described_later(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it looked for the generations to reach, the collection was gone."""
    await start(api)
    await reach(api, models.ROLLOUT_STAGE_READY)
    api.server.versions[2].failure = TritonUnavailable("Triton is away")
    written, may_end, write = asyncio.Event(), asyncio.Event(), api.server.catalog.write

    async def linger(*given: Any, **named: Any) -> Sequence[Written]:
        answers = await write(*given, **named)
        written.set()
        await may_end.wait()
        return answers

    async def refuse_all(_: int) -> int:
        raise StorageFull("the server's disk is full")

    monkeypatch.setattr(api.server.catalog, "write", linger)
    monkeypatch.setattr(api.server.catalog, "delete_collection", refuse_all)
    writing = asyncio.create_task(api.fill(item("late", FLOWER)))
    await written.wait()
    request = collections.DeleteCollectionRequest(name="default")
    deleting = asyncio.create_task(refuse(api.collections.DeleteCollection(request)))
    async with asyncio.timeout(10):
        while api.server.collections.all():
            await asyncio.sleep(0.01)

    may_end.set()
    await writing
    assert (await deleting).reason == "STORAGE_FULL"
    api.server.versions[2].failure = None

    await all_are_described(api)
