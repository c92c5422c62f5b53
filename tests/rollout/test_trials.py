"""Rollouts that take part in live searches before they are promoted, over a real channel."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pspsearch.errors import BrokenModel, Overloaded
from pspsearch.v1 import item_service_pb2 as items
from pspsearch.v1 import model_service_pb2 as models
from pspsearch.v1 import resources_pb2 as resources
from pspsearch.v1 import search_service_pb2 as searches
from tests.servers.rollout_place import Place, picture, reach
from tests.servers.rpc_client import Api, descriptor, item, query, refuse

CALLERS = [f"caller-{number}" for number in range(60)]


@pytest.fixture
async def api(place: Place) -> AsyncIterator[Api]:
    """A server with a rollout that is ready."""
    async with place.open() as api:
        await api.fill(*(item(f"item-{number}", picture(number)) for number in range(20)))
        await api.models.StartRollout(models.StartRolloutRequest())
        await reach(api, models.ROLLOUT_STAGE_READY)
        yield api


async def try_out(api: Api, canary: float = 0.0, shadow: float = 0.0) -> models.Rollout:
    """Sets these shares."""
    return (await api.models.TryRollout(models.TryRolloutRequest(canary=canary, shadow=shadow))).rollout


async def trial(api: Api) -> models.Trial:
    """Returns the figures of the trial."""
    return (await api.models.GetRollout(models.GetRolloutRequest())).rollout.trial


async def mirrored(api: Api, count: int) -> models.Trial:
    """Waits until this many calls were mirrored."""
    async with asyncio.timeout(10):
        while (known := await trial(api)).mirrored_count + known.failed_count < count:
            await asyncio.sleep(0.01)
    return known


async def search(api: Api, caller: str = "somebody", **by: Any) -> resources.Origin:
    """Searches, checks the answer, and returns which version gave it."""
    asked = query(**(by or {"image": picture(3)}))
    answer = await api.search.Search(searches.SearchRequest(query=asked), metadata=(("x-caller-id", caller),))
    assert (answer.hits[0].id == "item-3") is ("id" not in by)  # an item is not among its own hits
    return answer.origin


async def answered_by_the_new(api: Api) -> set[str]:
    """Returns the callers whom the new version answers."""
    return {caller for caller in CALLERS if (await search(api, caller)).model_version == 2}


async def test_the_same_callers_are_answered_and_more_with_a_larger_share(api: Api) -> None:
    """About as many are answered as were asked for, until the trial ends."""
    assert await answered_by_the_new(api) == set()

    assert (await try_out(api, canary=0.3)).canary == pytest.approx(0.3)
    few = await answered_by_the_new(api)
    assert 5 < len(few) < 31
    assert await answered_by_the_new(api) == few
    assert (await trial(api)).answered_count == 2 * len(few)

    await try_out(api, canary=0.7)
    many = await answered_by_the_new(api)
    assert few < many < set(CALLERS)

    await try_out(api, canary=1)
    assert await answered_by_the_new(api) == set(CALLERS)

    await try_out(api)
    assert await answered_by_the_new(api) == set()


async def test_who_gives_no_name_is_known_by_the_address(api: Api) -> None:
    """The address is the same for all connections from one place."""
    await try_out(api, canary=0.5)
    versions: set[int] = set()
    for _ in range(10):
        answer = await api.search.Search(searches.SearchRequest(query=query(image=picture(3))))
        versions.add(answer.origin.model_version)
    assert len(versions) == 1


async def test_every_kind_of_search_is_tried(api: Api) -> None:
    """Batches, streams, recommendations and comparisons are; a description is not, because it can be put in again."""
    await try_out(api, canary=1)
    image = query(image=picture(3))

    batch = await api.search.BatchSearch(searches.BatchSearchRequest(queries=[image, query(id="item-4")]))
    assert batch.origin.model_version == 2
    assert [one.status.code for one in batch.results] == [0, 0]

    requests = [searches.SearchStreamRequest(tag="a", request=searches.SearchRequest(query=image))]
    streamed = [answer async for answer in api.search.SearchStream(iter(requests))]
    assert [one.response.origin.model_version for one in streamed] == [2]

    assert (await api.search.Recommend(searches.RecommendRequest(positives=[image]))).origin.model_version == 2
    compared = await api.search.Compare(searches.CompareRequest(left=image, right=query(id="item-3")))
    assert (compared.origin.model_version, compared.score) == (2, pytest.approx(1, abs=1e-3))

    assert (await api.search.Describe(searches.DescribeRequest(image=picture(3)))).origin.model_version == 1


async def test_what_the_new_one_cannot_answer_is_passed_on(api: Api) -> None:
    """This covers a descriptor of the other space, alone and in a batch, and every call to a broken version."""
    await try_out(api, canary=1)
    known = (await api.search.Describe(searches.DescribeRequest(image=picture(3)))).descriptor
    given = descriptor(known.values, known.fingerprint)

    assert (await search(api, descriptor=given)).model_version == 1
    queries = [query(image=picture(3)), query(descriptor=given)]
    batch = await api.search.BatchSearch(searches.BatchSearchRequest(queries=queries))
    assert batch.origin.model_version == 1
    assert [one.hits[0].id for one in batch.results] == ["item-3", "item-3"]
    assert (await trial(api)).passed_on_count == 2

    api.server.versions[2].failure = BrokenModel("it answers with nonsense")
    assert (await search(api)).model_version == 1
    assert (await search(api, id="item-3")).model_version == 2

    api.server.versions[2].failure = Overloaded("later")
    refused = await refuse(api.search.Search(searches.SearchRequest(query=query(image=picture(3)))))
    assert refused.status.message == "later"


async def test_errors_are_those_of_the_version_that_answers_all_others(api: Api) -> None:
    """A call that is wrong for one version is wrong for the other, too."""
    await try_out(api, canary=1)

    bad = await refuse(api.search.Search(searches.SearchRequest(query=query(image=b"no image"))))
    missing = await refuse(api.search.Search(searches.SearchRequest(query=query(id="nobody"))))

    assert (bad.code.name, missing.code.name) == ("INVALID_ARGUMENT", "NOT_FOUND")


async def test_searches_are_compared_and_answered_as_ever(api: Api) -> None:
    """As many as asked for are compared; here the two spaces have the same neighbours."""
    await try_out(api, shadow=1)
    for number in range(8):
        assert (await search(api, f"caller-{number}")).model_version == 1
    batch = searches.BatchSearchRequest(queries=[query(image=picture(3)), query(id="item-4")])
    assert (await api.search.BatchSearch(batch)).origin.model_version == 1

    found = await mirrored(api, 9)

    assert (found.mirrored_count, found.failed_count, found.answered_count) == (9, 0, 0)
    assert found.overlap == 1
    assert found.ms > 0
    assert found.active_ms > 0

    await try_out(api, shadow=0.25)
    for _ in range(12):
        await search(api)
    assert (await mirrored(api, 3)).mirrored_count == 3


async def test_a_version_that_fails_on_mirrored_searches_is_only_counted(api: Api) -> None:
    """Callers do not notice, and a call that hangs ends with the rollout."""
    await try_out(api, shadow=1)
    api.server.versions[2].failure = BrokenModel("it answers with nonsense")
    assert (await search(api)).model_version == 1
    assert (await mirrored(api, 1)).failed_count == 1

    api.server.versions[2].failure = None
    api.server.versions[2].may_answer.clear()
    for _ in range(20):
        assert (await search(api)).model_version == 1
    async with asyncio.timeout(5):
        await api.models.AbortRollout(models.AbortRolloutRequest())
    ended = (await api.models.GetRollout(models.GetRolloutRequest())).rollout
    assert (ended.stage, ended.trial.failed_count) == (models.ROLLOUT_STAGE_FAILED, 1)
    api.server.versions[2].may_answer.set()
    assert (await search(api)).model_version == 1


async def test_a_write_is_found_by_those_who_try(api: Api) -> None:
    """It is found as soon as it is acknowledged, and no longer once it is deleted."""
    await try_out(api, canary=1)
    await api.fill(item("new", picture(77)))
    found = await api.search.Search(searches.SearchRequest(query=query(image=picture(77))))
    assert (found.origin.model_version, found.hits[0].id) == (2, "new")

    await api.items.DeleteItems(items.DeleteItemsRequest(ids=["new"]))
    found = await api.search.Search(searches.SearchRequest(query=query(image=picture(77))))
    assert "new" not in {hit.id for hit in found.hits}


async def test_a_promotion_ends_it(api: Api) -> None:
    """All callers then get the new version, and after a rollback the old one; the counts are kept."""
    await try_out(api, canary=0.5, shadow=1)
    few = await answered_by_the_new(api)
    promoted = (await api.models.PromoteRollout(models.PromoteRolloutRequest())).rollout
    assert promoted.trial.answered_count == len(few)
    assert await answered_by_the_new(api) == set(CALLERS)

    await api.models.Rollback(models.RollbackRequest())
    assert await answered_by_the_new(api) == set()
    assert (await trial(api)).answered_count == len(few)


async def test_watchers_see_it(api: Api) -> None:
    """They see changed counts even if nothing else changes."""
    await try_out(api, canary=1)
    watch = api.models.WatchRollout(models.WatchRolloutRequest())
    async with asyncio.timeout(10):
        async for answer in watch:
            if answer.rollout.trial.answered_count:
                break
            await search(api)


async def test_shares_that_cannot_be_are_refused(api: Api) -> None:
    """The refusal is a sentence, and nothing changes."""
    for canary, shadow in ((1.5, 0), (-0.1, 0), (0, float("nan"))):
        refused = await refuse(api.models.TryRollout(models.TryRolloutRequest(canary=canary, shadow=shadow)))
        assert (refused.code.name, refused.status.message.split()[1:3]) == ("INVALID_ARGUMENT", ["must", "be"])
    assert await answered_by_the_new(api) == set()
    await api.models.AbortRollout(models.AbortRolloutRequest())
    refused = await refuse(api.models.TryRollout(models.TryRolloutRequest(canary=0.1)))
    assert refused.code.name == "FAILED_PRECONDITION"


async def test_it_goes_on_after_a_restart(tmp_path: Path) -> None:
    """With the shares asked for before it was ready, the trial begins as soon as it is ready again."""
    place = Place(tmp_path)
    async with place.open() as api:
        await api.fill(*(item(f"item-{number}", picture(number)) for number in range(20)))
        await api.models.StartRollout(models.StartRolloutRequest(canary=1))
        await reach(api, models.ROLLOUT_STAGE_READY)
        assert (await search(api)).model_version == 2
        await try_out(api, canary=0.4)
        few = await answered_by_the_new(api)
    async with place.open() as api:
        await reach(api, models.ROLLOUT_STAGE_READY)
        assert await answered_by_the_new(api) == few
