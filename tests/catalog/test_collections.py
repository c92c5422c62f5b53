"""A deleted collection is gone at once; its rows go in slices, behind other writes."""

import asyncio
import contextlib
import threading
from pathlib import Path
from typing import Any

from pspsearch.catalog.catalog import SqliteCatalog
from pspsearch.catalog.collections import _SLICE
from pspsearch.catalog.connections import connect_reader, connect_writer
from pspsearch.catalog.integrity import count_rows
from pspsearch.catalog.queries import read_page
from pspsearch.domain import Commit, Generation
from pspsearch.errors import NotFound
from tests.fakes.catalog import SETTINGS, VERSION, picture

COUNT = 3 * _SLICE + 1


def count(data: Path, table: str) -> int:
    """Counts rows on disk."""
    with contextlib.closing(connect_reader(data / "catalog.sqlite3")) as connection:
        return count_rows(connection)[table]


async def fill(catalog: SqliteCatalog) -> Generation:
    """Creates a collection with a few slices of items, and records one request."""
    _, generation = await catalog.create_collection("large", SETTINGS, VERSION)
    writes = [picture(str(number), b"%d" % number) for number in range(COUNT)]
    await catalog.write(generation, writes, request_id="r")
    return generation


async def write_until_tidy(catalog: SqliteCatalog, generation: Generation) -> None:
    """Writes until all is tidied up: at least one slice goes between two writes."""
    for number in range(COUNT // _SLICE + 5):
        await catalog.write(generation, [picture("a", b"%d" % number)])


async def test_collection_is_gone_while_its_rows_are_still_there(tmp_path: Path) -> None:
    """A write in the very commit that deletes does not wait for the rows, which nobody can reach; they go later."""
    seen: list[tuple[int, set[int]]] = []
    reached, opened = threading.Event(), threading.Event()

    def look(commit: Commit) -> None:
        if commit.generation == small.key:
            with contextlib.closing(connect_reader(tmp_path / "catalog.sqlite3")) as connection:
                page = read_page(connection, large.collection, 0, 10_000)
            rows = catalog.rows_of(large)
            reachable = {len(page), rows.sequences().size, len(list(rows.after(0)))}
            seen.append((count(tmp_path, "items"), reachable))
            reached.set()
            opened.wait()

    async with await SqliteCatalog.open(tmp_path) as catalog:
        _, small = await catalog.create_collection("small", SETTINGS, VERSION)
        large = await fill(catalog)
        catalog.listen(look)
        calls: list[asyncio.Future[Any]] = [asyncio.ensure_future(catalog.write(small, [picture("a", b"a")]))]
        await asyncio.to_thread(reached.wait)
        calls.append(asyncio.ensure_future(catalog.delete_collection(large.collection)))
        calls.append(asyncio.ensure_future(catalog.delete_collection(large.collection)))
        calls.append(asyncio.ensure_future(catalog.write(large, [picture("a", b"a")])))
        calls.append(asyncio.ensure_future(catalog.write(small, [picture("b", b"b")])))
        await asyncio.sleep(0)  # until all are in the queue
        opened.set()
        _, deleted, again, write, _ = await asyncio.gather(*calls, return_exceptions=True)
        await write_until_tidy(catalog, small)

        assert deleted == COUNT
        assert [type(again), type(write)] == [NotFound, NotFound]
        assert seen[:2] == [(COUNT + 1, {COUNT}), (COUNT + 2, {0})]
        assert [count(tmp_path, table) for table in ("items", "descriptors", "images")] == [2, 2, 2]
        assert [count(tmp_path, table) for table in ("collections", "generations", "requests")] == [1, 1, 0]


async def test_rows_left_by_a_crash_go_after_the_restart(tmp_path: Path) -> None:
    """The mark on the collection was acknowledged; the slices go on from it."""
    async with await SqliteCatalog.open(tmp_path) as catalog:
        await fill(catalog)
        _, small = await catalog.create_collection("small", SETTINGS, VERSION)
    with contextlib.closing(connect_writer(tmp_path / "catalog.sqlite3")) as connection:
        connection.execute("UPDATE collections SET gone = 1 WHERE name = 'large'")

    async with await SqliteCatalog.open(tmp_path) as catalog:
        await write_until_tidy(catalog, small)

        assert count(tmp_path, "items") == count(tmp_path, "images") == count(tmp_path, "collections") == 1


async def test_image_that_another_collection_has_stays(tmp_path: Path) -> None:
    """Deleting a collection removes only images that no other collection has."""
    async with await SqliteCatalog.open(tmp_path) as catalog:
        large = await fill(catalog)
        _, small = await catalog.create_collection("small", SETTINGS, VERSION)
        await catalog.write(small, [picture("shared", b"100")])
        await catalog.delete_collection(large.collection)
        await write_until_tidy(catalog, small)

        assert await catalog.image(small.collection, "shared") == b"100"
        assert count(tmp_path, "images") == 2
