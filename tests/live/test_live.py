"""Snapshots of open collections: a call keeps the one that it took, and nothing is closed while a call uses it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from pspsearch.rollout.rollout import RolloutOptions
from pspsearch.v1 import model_service_pb2 as models
from tests.servers.rollout_place import Place, reach
from tests.servers.rpc_client import FLOWER, Api, item


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    """A server with an item."""
    async with Place(None).open() as api:
        await api.fill(item("a", FLOWER))
        yield api


async def test_a_snapshot_stays_what_it_was(api: Api) -> None:
    """It stays the same whatever happens to its collection; `get` returns the new one."""
    collections, rollouts = api.server.collections, api.server.rollouts
    alone = collections.get("")

    await rollouts.start("", 2, RolloutOptions())
    await reach(api, models.ROLLOUT_STAGE_READY)
    reached = collections.get("")
    await collections.set_follows("", follows=True)
    await rollouts.promote("")
    now = collections.get("")

    assert [(live.generation.version, live.collection.follows) for live in (alone, reached, now)] == [
        (1, False),
        (1, False),
        (2, True),
    ]
    assert [[one.generation.version for one in live.beside] for live in (alone, reached, now)] == [[], [2], [1]]
    assert collections.beside(alone.collection) == now.beside


async def test_a_generation_is_not_closed_while_an_earlier_snapshot_of_it_is_in_use(api: Api) -> None:
    """All snapshots of one generation count the same calls."""
    collections, rollouts = api.server.collections, api.server.rollouts
    with collections.get("").in_use() as live:
        await rollouts.start("", 2, RolloutOptions(automatic=True))
        await reach(api, models.ROLLOUT_STAGE_PROMOTED)
        retired = await rollouts.retire("")
        for _ in range(10):
            await asyncio.sleep(0)

        assert retired == live.generation
        assert retired not in api.server.dropped

    await collections.finished()
    assert retired in api.server.dropped


async def test_a_deleted_collection_has_nothing_beside_it(api: Api) -> None:
    """This holds even if another collection has its name by now."""
    collections, rollouts = api.server.collections, api.server.rollouts
    gone = collections.get("")
    await rollouts.delete("default")
    assert collections.beside(gone.collection) == ()

    await collections.create("default", gone.collection.settings)
    await rollouts.start("", 2, RolloutOptions())

    assert collections.beside(gone.collection) == ()
    assert len(collections.beside(collections.get("").collection)) == 1
