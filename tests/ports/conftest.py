"""The catalogs that must behave alike: the fake and the real one."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pspsearch.catalog.catalog import SqliteCatalog
from pspsearch.domain import Generation
from pspsearch.ports import Catalog
from tests.fakes.catalog import SETTINGS, VERSION, Clock, Ear, MemoryCatalog


@pytest.fixture
def clock() -> Clock:
    """The catalog's clock."""
    return Clock()


@pytest.fixture(params=["memory", "sqlite"])
async def catalog(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[Catalog]:
    """An empty catalog."""
    opened = MemoryCatalog(clock) if request.param == "memory" else await SqliteCatalog.open(tmp_path, now=clock)
    yield opened
    await opened.close()


@pytest.fixture
def ear(catalog: Catalog) -> Ear:
    """Hears all commits."""
    ear = Ear()
    catalog.listen(ear)
    return ear


@pytest.fixture
async def generation(catalog: Catalog) -> Generation:
    """The generation of a new collection."""
    return (await catalog.create_collection("pictures", SETTINGS, VERSION))[1]
