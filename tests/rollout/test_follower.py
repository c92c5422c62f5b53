"""Collections that follow their model to new versions in the repository, over a real channel."""

import asyncio
from pathlib import Path

from pspsearch.rollout.follower import Follower
from pspsearch.v1 import collection_service_pb2 as collections
from pspsearch.v1 import model_service_pb2 as models
from pspsearch.v1 import resources_pb2 as resources
from tests.fakes.describer import Collapsed, ColourDescriber, version
from tests.rollout.steps import EXPECTED, assert_answers_from, failed, states
from tests.servers.rollout_place import Place, reach
from tests.servers.rpc_client import TEMPLE, Api, item


async def follow(api: Api, *, follow: bool = True) -> resources.Collection:
    """Sets whether the default collection follows."""
    return (await api.models.FollowModel(models.FollowModelRequest(follow=follow))).collection


async def test_a_collection_is_pinned_until_it_follows(place: Place, api: Api) -> None:
    """It follows when a version is seen, goes on following under the new one, and stops when it is pinned."""
    await api.server.follower.look_for_news("colours")
    assert await states(api) == ["ACTIVE"]

    assert (await follow(api)).follows_model
    await api.server.follower.look_for_news("colours")
    await reach(api, models.ROLLOUT_STAGE_PROMOTED)
    await assert_answers_from(api, 2, EXPECTED)

    assert (await api.collections.GetCollection(collections.GetCollectionRequest())).collection.follows_model
    assert not (await follow(api, follow=False)).follows_model
    place.versions[3] = ColourDescriber(version(3), 7)
    await api.server.follower.look_for_news("colours")
    await assert_answers_from(api, 2, EXPECTED)


async def test_a_collection_follows_after_a_restart(tmp_path: Path) -> None:
    """The setting is stored."""
    place = Place(tmp_path)
    async with place.open() as api:
        await api.fill(item("a", TEMPLE))
        await follow(api)
    async with place.open() as api:
        await api.server.follower.look_for_news("colours")
        await reach(api, models.ROLLOUT_STAGE_PROMOTED)


async def test_who_follows_takes_no_version_twice(tmp_path: Path) -> None:
    """A version rolled back stays back, a failed one is not tried again, and an unusable one is never tried."""
    place = Place(tmp_path)
    async with place.open() as api:
        await follow(api)
        await api.fill(*(item(id_, image) for id_, image in EXPECTED.items()))
        await api.server.follower.look_for_news("colours")
        await reach(api, models.ROLLOUT_STAGE_PROMOTED)
        await api.models.Rollback(models.RollbackRequest())
        place.versions[3] = Collapsed(version(3))
        place.versions[4] = ColourDescriber(version(4))
        place.versions[4].reason = "it is broken"
        await api.server.follower.look_for_news("colours")
        assert (await failed(api)).origin.model_version == 3
        before = await states(api)

        await api.server.follower.look_for_news("colours")
        del place.versions[3]
        await api.server.follower.look_for_news("colours")

        assert await states(api) == before == ["ACTIVE", "KEPT", "FAILED"]


async def test_the_repository_is_looked_into_now_and_then(place: Place, api: Api) -> None:
    """This lasts as long as the context."""
    server = api.server
    await follow(api)
    async with Follower(server.rollouts, server.collections, server.catalog, 0.01):
        async with asyncio.timeout(30):
            while await states(api) != ["KEPT", "ACTIVE"]:
                await asyncio.sleep(0.01)

    place.versions[3] = ColourDescriber(version(3), 7)
    await asyncio.sleep(0.1)
    assert await states(api) == ["KEPT", "ACTIVE"]
