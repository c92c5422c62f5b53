"""Fixtures for rollout tests: a server with two versions, with fakes at the ports or the real parts."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.rollout.steps import EXPECTED
from tests.servers.rollout_place import Place
from tests.servers.rpc_client import Api, item


@pytest.fixture(params=["memory", "real"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A place with two versions."""
    return Place(tmp_path if request.param == "real" else None)


@pytest.fixture
async def api(place: Place) -> AsyncIterator[Api]:
    """A server with the expected items."""
    async with place.open() as api:
        await api.fill(*(item(id_, image) for id_, image in EXPECTED.items()))
        yield api
