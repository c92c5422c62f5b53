"""Searches that group their hits or fold near-duplicates."""

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest

from pspsearch.call import Call
from pspsearch.describe.decoding import Decoder
from pspsearch.describe.queries import QueryDescriber
from pspsearch.errors import InvalidRequest
from pspsearch.live.latencies import Latencies
from pspsearch.live.recent_images import RecentImages
from pspsearch.query import ItemQuery, Options
from pspsearch.search import ranking, searcher
from pspsearch.search.pages import MAX_CARRIED_BYTES
from pspsearch.search.searcher import Searcher
from pspsearch.v1 import item_service_pb2 as items
from tests.fakes.catalog import MemoryCatalog
from tests.fakes.describer import DIMENSION
from tests.servers.rpc_client import FLOWER, TEMPLE, Api, descriptor, item, open_api
from tests.servers.rpc_server import LIMITS

MEBI = 1 << 20
PATIENCE_S = 10.0
QUERY = ItemQuery("query")
OPTIONS = [Options(group_by="kind"), Options(fold_above=0.99)]


class LateCatalog(MemoryCatalog):
    """Reads attributes only after a test has acted, and may return the same for every row."""

    def __init__(self) -> None:
        super().__init__()
        self.first: Callable[[], Awaitable[Any]] | None = None
        self.same: str | None = None

    async def attributes(self, collection: int, sequences: Sequence[int]) -> dict[int, str]:
        """Returns them as they are then."""
        if self.first is not None:
            await self.first()
        if self.same is not None:
            return dict.fromkeys(sequences, self.same)
        return await super().attributes(collection, sequences)


@pytest.fixture
def catalog() -> LateCatalog:
    """The server's catalog."""
    return LateCatalog()


@pytest.fixture
async def api(catalog: LateCatalog) -> AsyncIterator[Api]:
    """A server with two items that look like the query, and one that does not."""
    async with open_api(catalog=catalog) as api:
        await api.fill(
            item("query", TEMPLE),
            item("one", TEMPLE, '{"kind": "building"}'),
            item("other", TEMPLE, '{"kind": "building"}'),
            item("plant", FLOWER, '{"kind": "plant"}'),
        )
        yield api


@pytest.fixture
def searches(api: Api, catalog: LateCatalog) -> Iterator[Searcher]:
    """A searcher besides the server's own."""
    with contextlib.closing(Decoder(LIMITS)) as decoder:
        describer = QueryDescriber(catalog, decoder)
        yield Searcher(api.server.collections, catalog, describer, Latencies(), RecentImages())


async def groups(searches: Searcher) -> list[tuple[str, str]]:
    """Returns the hits' ids and groups."""
    answer = await searches.search("", QUERY, Options(group_by="kind"), Call())
    return [(hit.id, hit.group) for hit in answer.hits]


async def test_a_row_that_is_replaced_meanwhile_keeps_its_group(
    api: Api, catalog: LateCatalog, searches: Searcher
) -> None:
    """It gets the group that its item has now, so it is no hit beside another one of that group."""
    catalog.first = partial(api.fill, item("other", FLOWER, '{"kind": "building"}'))

    assert await groups(searches) == [("one", '"building"'), ("plant", '"plant"')]


async def test_a_row_that_is_deleted_meanwhile_has_no_group(api: Api, catalog: LateCatalog, searches: Searcher) -> None:
    """It was found, so it is a hit."""
    catalog.first = partial(api.items.DeleteItems, items.DeleteItemsRequest(ids=["other"]))

    assert await groups(searches) == [("one", '"building"'), ("other", ""), ("plant", '"plant"')]


async def test_values_of_groups_are_bounded(api: Api, catalog: LateCatalog, searches: Searcher) -> None:
    """However long the attributes are, only the group values are held."""
    most = MAX_CARRIED_BYTES // MEBI
    points = [items.ItemInput(id=f"{n}", descriptor=descriptor(np.eye(DIMENSION)[0])) for n in range(most - 3)]
    catalog.same = json.dumps({"kind": "é" * (MEBI // 2 - 1), "other": "x" * MEBI}, ensure_ascii=False)

    await api.fill(*points[:-1])
    assert len(await groups(searches)) == 1
    await api.fill(points[-1])
    with pytest.raises(InvalidRequest, match="the values of kind are more than 64 MiB: group by a shorter attribute"):
        await groups(searches)


@pytest.mark.parametrize("options", OPTIONS)
async def test_the_event_loop_goes_on(searches: Searcher, options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are grouped and folded in other threads."""
    threads: list[int] = []

    def spy(function: Callable[..., Any], *given: Any) -> Any:
        threads.append(threading.get_ident())
        return function(*given)

    monkeypatch.setattr(searcher, "rank", partial(spy, ranking.rank))
    monkeypatch.setattr(searcher, "group_values", partial(spy, ranking.group_values))

    answer = await searches.search("", QUERY, options, Call())

    assert [hit.id for hit in answer.hits] == ["one", "plant"]
    assert len(threads) == (2 if options.group_by else 1)
    assert threading.get_ident() not in threads


@pytest.mark.parametrize("options", OPTIONS)
async def test_who_leaves_stops_it_at_the_next_query(
    searches: Searcher, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three queries, the second and the third never begin."""
    loop, entered, may_go = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    begun: list[object] = []

    def wait(*given: Any) -> ranking.Ranked:
        begun.append(given)
        loop.call_soon_threadsafe(entered.set)
        may_go.wait(PATIENCE_S)
        return ranking.rank(*given)

    monkeypatch.setattr(searcher, "rank", wait)
    call = asyncio.create_task(searches.search_batch("", [QUERY] * 3, options, Call()))
    await asyncio.wait_for(entered.wait(), PATIENCE_S)

    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    may_go.set()

    assert len(begun) == 1


async def test_who_leaves_stops_it_within_a_query(
    api: Api, searches: Searcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many rows, only some are still looked at."""
    await api.fill(*(items.ItemInput(id=f"{n}", descriptor=descriptor(np.eye(DIMENSION)[0])) for n in range(200)))
    loop, entered, may_go = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    looked_at: list[int] = []

    def wait(attributes: dict[int, str], path: str) -> dict[int, str]:
        looked_at.append(len(attributes))
        loop.call_soon_threadsafe(entered.set)
        may_go.wait(PATIENCE_S)
        return ranking.group_values(attributes, path)

    monkeypatch.setattr(searcher, "group_values", wait)
    call = asyncio.create_task(searches.search("", QUERY, Options(limit=1000, group_by="kind"), Call()))
    await asyncio.wait_for(entered.wait(), PATIENCE_S)

    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    may_go.set()

    assert looked_at == [64]


def test_the_path_of_groups_is_bounded() -> None:
    """It is bounded like every text of a request."""
    assert Options(group_by="." * 1024).sets_apart
    with pytest.raises(InvalidRequest, match="group_by has at most 1024 characters, not 1025"):
        Options(group_by="." * 1025)


@pytest.mark.parametrize("options", [{"group_by": "kind"}, {"fold_above": 1.0}])
def test_only_so_many_hits_are_held_against_one_another(options: dict[str, Any]) -> None:
    """Without grouping or folding a page may go deeper."""
    assert Options(limit=1000, **options).depth == Options(limit=1, offset=999, **options).depth == 1000
    assert Options(limit=1000, offset=9000).depth == 10_000
    with pytest.raises(InvalidRequest, match="offset and limit together are at most 1000, not 1001"):
        Options(limit=1000, offset=1, **options)
