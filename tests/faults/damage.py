"""Bits that flip in files on disk, and files that end too early."""

import asyncio
import contextlib
import json
import logging
import os
import random
import shutil
from pathlib import Path

import numpy as np

from pspsearch.catalog.catalog import SqliteCatalog
from pspsearch.catalog.connections import connect_reader
from pspsearch.catalog.folder import CATALOG, INDEXES
from pspsearch.catalog.salvage import salvage
from pspsearch.client import AsyncClient, ItemInput
from pspsearch.domain import Generation
from pspsearch.errors import CatalogDamaged
from pspsearch.index.index import SegmentedIndex
from pspsearch.index.memory import IndexMemory
from tests.fakes.index import match_all
from tests.faults.place import DIMENSION, MODEL, ONCE, Ledger, Place, check_server, fingerprint_of, item, point
from tests.pictures import encode, load_photo
from tests.servers.search_server import ServerEnded, why_refused

ITEMS, LOGGED = 250, 40
SERVED = 10
"""How often a server also meets the damage, and what it finds is salvaged."""

Content = list[tuple[object, ...]]


async def damaged(place: Place, times: int) -> str:
    """Damages the catalog, its index, or the log of a killed server. Nothing wrong is ever answered."""
    folder, chance = place.new_folder("damaged"), random.Random(7)
    sound, ledger = await _make(place, folder / "sound")
    killed, log_bytes = await _kill(place, folder / "killed")
    async with await SqliteCatalog.open(sound) as catalog:
        content = await _read(catalog)
        ((_, generation),) = await catalog.collections()
    files = _index_files(sound, generation)
    at_once = later = served = 0
    for number in range(times):
        data = folder / str(number)
        shutil.copytree(killed if number % 3 == 2 else sound, data)
        if number % 3 == 2:
            _flip(data / f"{CATALOG}-wal", chance.randrange(log_bytes), chance)
            with contextlib.suppress(CatalogDamaged):
                await SqliteCatalog.open(data)
                raise AssertionError("damage was not found")
        elif number % 3 == 1:
            name, size = chance.choice(files)
            _damage(data / name, size, chance)
            await _check_index(data, generation, str(data / name))
            if number % SERVED == 1:
                with place.serve(data) as server:
                    async with AsyncClient(server.address, retries=ONCE) as client:
                        await client.delete([f"p{one}" for one in range(4)])
                        await check_server(client, Ledger(dict(ledger.acknowledged)))
                served += 1
        else:
            path = data / CATALOG
            _damage(path, path.stat().st_size, chance)
            found = await _check_catalog(data, content)
            at_once += found == "opening"
            later += found == "reading"
            if number % SERVED == 0:
                await _check_served(place, data, Ledger(dict(ledger.acknowledged)))
                served += 1
        shutil.rmtree(data)
    return (
        f"{times} times: the catalog refused when it was opened {at_once}, when it was read {later}, "
        f"when it was looked through {(times + 2) // 3 - at_once - later}; its log refused, the index made again "
        f"each time; {served} before servers"
    )


async def _make(place: Place, data: Path) -> tuple[Path, Ledger]:
    ledger = Ledger()
    with place.serve(data) as server:
        async with AsyncClient(server.address) as client:
            fingerprint = await fingerprint_of(client)
            numbers = range(ITEMS)
            await client.upsert([item(str(number), number, fingerprint) for number in numbers])
            for number in range(4):
                await client.upsert([ItemInput(f"p{number}", encode(load_photo(300, 200 + number)), {"version": -1})])
            ledger.acknowledged = {str(number): number for number in numbers}
    with contextlib.closing(connect_reader(data / CATALOG)) as connection:
        assert connection.execute("PRAGMA freelist_count").get == 0, "what happens to a free page does not matter"
    return data, ledger


async def _kill(place: Place, data: Path) -> tuple[Path, int]:
    """The data, and how much of its log precedes the last two writes; damage after that can be a torn end."""
    with place.serve(data) as server:
        async with AsyncClient(server.address) as client:
            fingerprint = await fingerprint_of(client)
            for number in range(LOGGED):
                await client.upsert([item(str(number), number, fingerprint)])
            size = (data / f"{CATALOG}-wal").stat().st_size
            for number in range(2):
                await client.upsert([item(str(number), LOGGED, fingerprint)])
            server.process.kill()
            server.process.wait()
    return data, size


def _index_files(data: Path, generation: Generation) -> list[tuple[Path, int]]:
    """The index files, and how many bytes of each matter."""
    folder = data / INDEXES / str(generation.key)
    (snapshot,) = folder.glob("snapshot-*")
    manifest = json.loads((snapshot / "manifest.json").read_bytes())["manifest"]
    files = [(path.relative_to(data), path.stat().st_size) for path in snapshot.iterdir() if path.stat().st_size]
    return [*files, ((folder / manifest["matrix"]).relative_to(data), manifest["rows"] * 2 * DIMENSION)]


def _damage(path: Path, size: int, chance: random.Random) -> None:
    place = chance.randrange(size)
    if chance.random() < 0.25:
        os.truncate(path, place)
    else:
        _flip(path, place, chance)


def _flip(path: Path, place: int, chance: random.Random) -> None:
    """Flips one bit of the byte at `place`."""
    with path.open("r+b") as file:
        file.seek(place)
        (byte,) = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ 1 << chance.randrange(8)]))


async def _check_catalog(data: Path, content: Content) -> str:
    """When the damage was found; everything read before is right."""
    try:
        catalog = await SqliteCatalog.open(data)
    except CatalogDamaged as error:
        assert "restore a backup" in str(error)  # noqa: PT017 - otherwise it is found later
        return "opening"
    async with catalog:
        try:
            assert await _read(catalog) == content
        except CatalogDamaged:
            return "reading"
        try:
            await catalog.check()
        except CatalogDamaged:
            return "checking"
    raise AssertionError("damage was not found")


async def _check_index(data: Path, generation: Generation, path: str) -> None:
    """One line names the file, and every row is there."""
    heard, log = _Ear(), logging.getLogger("pspsearch.index")
    log.addHandler(heard)
    try:
        async with await SqliteCatalog.open(data) as catalog:
            ((collection, _),) = await catalog.collections()
            rows = catalog.rows_of(generation)
            folder = data / INDEXES / str(generation.key)
            index = await SegmentedIndex.open(
                folder, generation, collection.settings, rows, memory=IndexMemory(1 << 30)
            )
            matched = await match_all(index)
            assert sorted(matched.sequences.tolist()) == rows.sequences().tolist()
            true = {row.sequence: row.descriptor for row in rows.after(0)}
            found = await index.descriptors(matched.sequences.tolist())
            assert np.array_equal(found, np.stack([true[one] for one in matched.sequences.tolist()]).astype(np.float32))
            await index.close()
    finally:
        log.removeHandler(heard)
    assert [path in line for line in heard.lines] == [True], heard.lines


class _Ear(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps one line."""
        self.lines.append(record.getMessage())


async def _check_served(place: Place, data: Path, ledger: Ledger) -> None:
    """A server does not start, or refuses what is damaged; salvage restores everything except what it reports lost."""
    try:
        with place.serve(data, "--log-level", "error") as server:
            async with AsyncClient(server.address, retries=ONCE) as client:
                await _ask(client, ledger)
    except ServerEnded:
        assert "is damaged" in why_refused(data, place.triton, "--model", MODEL)
    lost: set[str] = set()
    salvaged = data.with_name(f"{data.name}.salvaged")
    try:
        await asyncio.to_thread(salvage, data, salvaged, lambda _loss, _collection, id_: lost.add(id_))
    except CatalogDamaged as error:
        assert "nothing can be taken out" in str(error)  # noqa: PT017 - its tables may have lost their names
        return
    whole = Ledger({id_: version for id_, version in ledger.acknowledged.items() if id_ not in lost})
    with place.serve(salvaged) as server:
        async with AsyncClient(server.address, retries=ONCE) as client:
            rest = [one.id async for one in client.list() if one.id in lost or one.id.startswith("p")]
            if rest:
                await client.delete(rest)
            await check_server(client, whole)


async def _ask(client: AsyncClient, ledger: Ledger) -> None:
    """Every item is right or refused."""
    try:
        found = {one.id: int(one.attributes["version"]) async for one in client.list(page_size=10)}
        assert {**ledger.acknowledged, **found} == {**found, **ledger.acknowledged}
    except CatalogDamaged:
        pass
    for id_, version in ledger.acknowledged.items():
        try:
            one = await client.get(id_, descriptor=True)
        except CatalogDamaged:
            continue
        assert one.descriptor is not None
        assert int(one.attributes["version"]) == version
        assert np.array_equal(one.descriptor.values, point(id_, version).astype(np.float16).astype(np.float32))


async def _read(catalog: SqliteCatalog) -> Content:
    """Everything that a server would read."""
    content: Content = []
    for collection, generation in await catalog.collections():
        content.append((collection, generation))
        for one in await catalog.page(collection.key, 0, 2 * ITEMS):
            descriptor = await catalog.descriptor(generation, one.id)
            assert descriptor is not None
            content.append((one, await catalog.image(collection.key, one.id), descriptor.tobytes()))
        content += [(row.sequence, row.id, row.attributes) for row in catalog.rows_of(generation).after(0)]
    return content
