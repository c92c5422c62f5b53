"""Writes that the catalog stored and an index could not take in: they are reported, and repaired."""

import asyncio
import errno
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from pspsearch.domain import DEFAULT_COLLECTION, IndexKind
from pspsearch.index.engine import FaissEngine
from pspsearch.index.index import SegmentedIndex
from pspsearch.index.upkeep import FIRST_PAUSE_S
from pspsearch.v1 import item_service_pb2 as items
from pspsearch.v1 import search_service_pb2 as searches
from tests.indexes import NEVER, ROOM
from tests.servers.rollout_place import picture
from tests.servers.rpc_client import Api, item, open_api, query, refuse


class Disk:
    """The disk of the indexes, which is full while a test says so."""

    full = False


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """A disk that gets every write of an index's descriptors."""
    disk, write = Disk(), os.pwrite

    def fail_when_full(*arguments: Any) -> int:
        if disk.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(*arguments)

    monkeypatch.setattr(os, "pwrite", fail_when_full)
    return disk


@pytest.fixture
async def api(tmp_path: Path, disk: Disk) -> AsyncIterator[Api]:
    """A server with real indexes and one item."""
    assert not disk.full
    async with open_api(engine=FaissEngine(tmp_path, ROOM, NEVER), index_kind=IndexKind.EXACT) as api:
        await api.fill(item("first", picture(1)))
        yield api


async def repaired(api: Api) -> None:
    """Waits until the index's own thread has caught up, after its pause."""
    index = api.server.collections.get(DEFAULT_COLLECTION).index
    assert isinstance(index, SegmentedIndex)
    index._upkeep._clock = lambda: time.monotonic() + 10 * FIRST_PAUSE_S
    index._upkeep._wake.set()
    async with asyncio.timeout(10):
        while index._segments.is_behind:
            await asyncio.sleep(0.01)


async def found(api: Api) -> set[str]:
    """Returns the ids that a search finds."""
    answer = await api.search.Search(searches.SearchRequest(query=query(image=picture(2))))
    return {hit.id for hit in answer.hits}


async def test_a_write_that_the_index_cannot_take_is_not_acknowledged(api: Api, disk: Disk) -> None:
    """Nor is a retry, nor a later deletion; when there is room all are found, and the retry succeeds."""
    upsert = items.UpsertItemsRequest(items=[item("second", picture(2))])
    disk.full = True
    for request in (upsert, upsert, items.DeleteItemsRequest(ids=["first"])):
        refused = await refuse(api.send(request))
        assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "not found by searches yet" in refused.status.message
    assert await found(api) == {"first"}

    disk.full = False
    await repaired(api)
    answer = await api.items.UpsertItems(upsert)

    assert [one.status.code for one in answer.results] == [0]
    assert await found(api) == {"second"}, "the deletion was on disk, too"


async def test_an_index_that_is_behind_catches_up_by_itself(api: Api, disk: Disk) -> None:
    """It needs no other write."""
    disk.full = True
    await refuse(api.send(items.UpsertItemsRequest(items=[item("second", picture(2))])))
    disk.full = False

    await repaired(api)

    api.server.collections.get(DEFAULT_COLLECTION).index.check_current()
    assert await found(api) == {"first", "second"}
