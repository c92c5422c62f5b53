"""Steps that rollout tests repeat, and what must be true after them."""

from typing import Any

import pytest

from pspsearch.v1 import model_service_pb2 as models
from pspsearch.v1 import search_service_pb2 as searches
from tests.servers.rollout_place import picture
from tests.servers.rpc_client import Api, query

EXPECTED = {f"item-{number}": picture(number) for number in range(20)}
"""The items of the server under test."""


async def start(api: Api, **options: Any) -> models.Rollout:
    """Starts a rollout of the default collection."""
    return (await api.models.StartRollout(models.StartRolloutRequest(**options))).rollout


async def failed(api: Api) -> models.Rollout:
    """Waits for the rollout to fail, and returns it."""
    answers = [answer.rollout async for answer in api.models.WatchRollout(models.WatchRolloutRequest())]
    assert answers[-1].stage == models.ROLLOUT_STAGE_FAILED
    return answers[-1]


async def promote(api: Api, **options: Any) -> models.Rollout:
    """Promotes a rollout that is ready."""
    return (await api.models.PromoteRollout(models.PromoteRolloutRequest(**options))).rollout


async def search(api: Api, image: bytes, limit: int = 5) -> searches.SearchResponse:
    """Searches the default collection."""
    options = searches.SearchOptions(limit=limit)
    return await api.search.Search(searches.SearchRequest(query=query(image=image), options=options))


async def states(api: Api) -> list[str]:
    """Returns the states of the default collection's generations."""
    answer = await api.models.ListGenerations(models.ListGenerationsRequest())
    return [models.GenerationState.Name(one.state).removeprefix("GENERATION_STATE_") for one in answer.generations]


async def assert_answers_from(api: Api, number: int, expected: dict[str, bytes]) -> None:
    """Asserts that every item finds itself first, in that version's space, and that nothing else exists."""
    for id_, image in expected.items():
        answer = await search(api, image, 1000)
        assert answer.origin.model_version == number
        assert answer.origin.fingerprint == api.server.versions[number].version.contract.fingerprint
        assert answer.hits[0].id == id_
        assert answer.hits[0].score == pytest.approx(1, abs=1e-3)
        assert {hit.id for hit in answer.hits} == expected.keys()
