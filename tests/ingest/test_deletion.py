"""Deletions by filter: what they delete, what stays, and what they hold up."""

import contextlib
import json
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from pspsearch.catalog.catalog import SqliteCatalog
from pspsearch.domain import Collection, Commit, Delete, Generation, Upsert
from pspsearch.errors import StorageFull
from pspsearch.filters import Filter
from pspsearch.ingest import deletion, ingester
from pspsearch.ingest.ingester import Ingester
from pspsearch.live.live import Live, OpenGeneration
from tests.fakes.catalog import SETTINGS, VERSION, describe
from tests.fakes.index import MemoryIndex

PORTION = 256
MANY = 3 * PORTION - 10
RED = Filter.parse("colour = red")


@dataclass
class Shop:
    """A collection in a real catalog, an index that hears of its commits, and an ingester."""

    catalog: SqliteCatalog
    collection: Collection
    generation: Generation
    index: MemoryIndex
    heard: list[Commit]

    @property
    def ingester(self) -> Ingester:
        """An ingester that knows this one collection."""
        nothing = cast(Any, None)
        live = Live(self.collection, OpenGeneration(self.generation, nothing), self.index)
        return Ingester(cast(Any, _One(live)), self.catalog, nothing, nothing, nothing)

    async def put(self, *ids: str, **attributes: Any) -> None:
        """Puts in items with these attributes."""
        text = json.dumps(attributes)
        await self.catalog.write(self.generation, [Upsert(id_, describe(id_.encode()), text) for id_ in ids])

    async def ids(self) -> set[str]:
        """Returns the ids of all items."""
        return {item.id for item in await self.catalog.page(self.collection.key, 0, 10_000)}

    def before_a_write(self, number: int, act: Callable[[], Awaitable[Any]]) -> None:
        """Makes `act` run before the writer gets its n-th call of work from now on."""
        give, calls = self.catalog._writer.do, 0

        async def do(*given: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == number:
                await act()
            return await give(*given)

        cast(Any, self.catalog._writer).do = do


@dataclass
class _One:
    """Stands for the collections of a server that has only one."""

    live: Live

    @contextlib.asynccontextmanager
    async def use(self, _name: str) -> AsyncGenerator[Live]:
        """Yields it; nobody closes it meanwhile."""
        yield self.live


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    """An empty shop."""
    async with await SqliteCatalog.open(tmp_path) as catalog:
        collection, generation = await catalog.create_collection("shop", SETTINGS, VERSION)
        shop = Shop(catalog, collection, generation, MemoryIndex(catalog.rows_of(generation)), [])

        def hear(commit: Commit) -> None:
            shop.heard.append(commit)
            if commit.generation == shop.generation.key:
                shop.index.apply(commit)

        catalog.listen(hear)
        yield shop


async def test_a_deletion_goes_in_portions(shop: Shop) -> None:
    """Each portion is a commit, and others write in between; together they delete all that matches the filter."""
    await shop.put(*(f"r{number}" for number in range(MANY)), colour="red")
    await shop.put("b", colour="blue")
    shop.before_a_write(2, lambda: shop.put("between", colour="red"))
    before = len(shop.heard)

    deleted, sequence = await shop.ingester.delete_matching("shop", RED)

    assert deleted == MANY
    assert await shop.ids() == {"b", "between"}
    removed = [len(commit.removed) for commit in shop.heard[before:]]
    assert removed == [PORTION, 0, PORTION, PORTION - 10]
    assert sequence == MANY * 2 + 2


async def test_what_the_index_finds_in_pages_goes_together(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The items of all pages, with and without a descriptor, go in one order."""
    monkeypatch.setattr(deletion, "MATCHED_AT_ONCE", 100)
    await shop.put(*(f"r{number}" for number in range(0, 500, 2)), colour="red")
    contract = replace(VERSION.contract, digest="cd" * 32)
    newer = await shop.catalog.begin_generation(shop.collection.key, replace(VERSION, version=2, contract=contract), "")
    assert await shop.catalog.promote_generation(newer, 1 << 40, "{}", lacking=True)
    shop.generation, shop.index = newer, MemoryIndex(shop.catalog.rows_of(newer))
    await shop.put(*(f"r{number}" for number in range(500)), "blue", colour="red")
    await shop.put("blue", colour="blue")
    before = len(shop.heard)

    assert (await shop.ingester.delete_matching("shop", RED))[0] == 500

    assert await shop.ids() == {"blue"}
    removed = [one.removed for one in shop.heard[before:] if one.generation == newer.key]
    assert [len(one) for one in removed] == [PORTION, 500 - PORTION]


async def test_what_changes_between_is_looked_at_again(shop: Shop) -> None:
    """An item that no longer matches stays, and so does one that was put in anew; the rest goes."""
    ids = [f"r{number}" for number in range(MANY)]
    await shop.put(*ids, colour="red")

    async def change() -> None:
        await shop.put(ids[-1], colour="blue")
        await shop.put(ids[-2], colour="red", again=True)
        await shop.catalog.write(shop.generation, [Delete(ids[-3])])
        await shop.put(ids[-3], colour="red")

    shop.before_a_write(2, change)

    await shop.ingester.delete_matching("shop", RED)

    assert await shop.ids() == {ids[-1], ids[-3]}


async def test_what_changes_at_the_last_moment_is_looked_at_by_the_writer(shop: Shop) -> None:
    """The change comes between the look and the writer's turn."""
    await shop.put("a", "b", colour="red")
    shop.before_a_write(1, lambda: shop.put("a", colour="blue"))

    assert (await shop.ingester.delete_matching("shop", RED))[0] == 1
    assert await shop.ids() == {"a"}


async def test_a_retry_finishes_what_a_crash_left(shop: Shop) -> None:
    """With the same request id it counts everything deleted, and spares items first put in since."""
    await shop.put(*(f"r{number}" for number in range(MANY)), colour="red")

    async def fail() -> None:
        raise StorageFull("the disk is full")

    shop.before_a_write(3, fail)  # the first call looks up the request id
    with pytest.raises(StorageFull):
        await shop.ingester.delete_matching("shop", RED, request_id="once")
    assert len(await shop.ids()) == MANY - PORTION
    await shop.put("new", colour="red")

    answer = await shop.ingester.delete_matching("shop", RED, request_id="once")

    assert answer[0] == MANY
    assert await shop.ids() == {"new"}
    assert await shop.ingester.delete_matching("shop", RED, request_id="once") == answer
    assert await shop.ids() == {"new"}


async def test_a_deletion_recorded_at_once_is_known(shop: Shop) -> None:
    """Before deletions went in portions, the whole answer was stored under the request id."""
    await shop.put("a", "b", colour="red")
    asked = ingester._digest("delete where", RED.text)
    given = [Delete("a"), Delete("b"), Delete("c")]
    first = await shop.catalog.write(shop.generation, given, request_id="once", asked=asked)
    await shop.put("a", colour="red")

    assert await shop.ingester.delete_matching("shop", RED, request_id="once") == (2, first[1].sequence)
    assert await shop.ids() == {"a"}


@pytest.mark.parametrize(("matching", "left"), [("*", set[str]()), ("colour = red", {"with b", "without b"})])
async def test_items_without_a_descriptor_go_too(shop: Shop, matching: str, left: set[str]) -> None:
    """The active generation cannot find them, but the filter matches them all the same."""
    await shop.put("without a", colour="red")
    await shop.put("without b", colour="blue")
    contract = replace(VERSION.contract, digest="cd" * 32)
    newer = await shop.catalog.begin_generation(shop.collection.key, replace(VERSION, version=2, contract=contract), "")
    assert await shop.catalog.promote_generation(newer, 1 << 40, "{}", lacking=True)
    shop.generation, shop.index = newer, MemoryIndex(shop.catalog.rows_of(newer))
    await shop.put("with a", colour="red")
    await shop.put("with b", colour="blue")

    deleted, _ = await shop.ingester.delete_matching("shop", Filter.parse(matching))

    assert await shop.ids() == left
    assert deleted == 4 - len(left)


async def test_filters_are_not_evaluated_while_the_writer_is_held(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """All collections wait for the writer, and a filter of 900 comparisons over wide items may take long."""
    await shop.put("wide", **{f"a{number}": number for number in range(900)})
    keep = Filter.parse(" ".join(f"a{number}={number}" for number in range(400)))
    evaluated: list[str] = []
    matches = Filter.matches

    def spy(self: Filter, attributes: dict[str, Any]) -> bool:
        evaluated.append(threading.current_thread().name)
        return matches(self, attributes)

    monkeypatch.setattr(Filter, "matches", spy)

    assert (await shop.ingester.delete_matching("shop", keep))[0] == 1
    assert "catalog-writer" not in evaluated
