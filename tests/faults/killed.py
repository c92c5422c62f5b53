"""kill -9 and SIGTERM of a server that writes, and kill -9 of a backup."""

import asyncio
import itertools
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from typing import Any

from pspsearch.catalog.backup import back_up, restore
from pspsearch.catalog.folder import INDEXES
from pspsearch.client import AsyncClient, ItemInput
from pspsearch.errors import RetryLater
from tests.faults.place import ONCE, Ledger, Place, change, check_ended, check_server, fingerprint_of, item
from tests.pictures import encode, load_photo
from tests.servers.search_server import SearchServer

RESTART_S, GRACE_S = 10.0, 10.0
"""Bounds for a restart with 100,000 items, more than there are here, and for calls under way at SIGTERM."""
MOST_WRITES = 300
"""The most writes until a kill; chance decides how many."""
MANY = 10
SEARCHERS = 16
PICTURES, PADDING = 40, 500_000
"""The size of the data for a backup that takes a while."""

Work = Callable[[AsyncClient, Ledger, random.Random], Coroutine[Any, Any, None]]
"""Work that writes until it fails."""


async def during_ingest(place: Place, times: int) -> str:
    """A stream of new items breaks off after a random number of acknowledgements."""
    numbers = itertools.count()

    async def ingest(client: AsyncClient, ledger: Ledger, _: random.Random) -> None:
        fingerprint = await fingerprint_of(client)

        async def items() -> AsyncIterator[ItemInput]:
            for number in numbers:
                ledger.send(f"i{number}", number)
                yield item(f"i{number}", number, fingerprint)

        async for acknowledgement in client.ingest(items()):
            assert acknowledgement.error is None
            ledger.acknowledge(acknowledgement.id)

    return await _kill(place, "ingest", times, ingest)


async def during_changes(place: Place, times: int) -> str:
    """Several callers with their own ids insert, replace and delete items, a few in each call."""
    return await _kill(place, "changes", times, partial(change, versions=itertools.count()))


async def _kill(place: Place, name: str, times: int, work: Work) -> str:
    """Kills servers one after another on one data folder, and checks it after each kill."""
    ledger, chance, data = Ledger(), random.Random(1), place.new_folder(name)
    slowest_s = 0.0
    for number in range(times + 1):
        with place.serve(data) as server:
            slowest_s = max(slowest_s, server.ready_s)
            async with AsyncClient(server.address, retries=ONCE) as client:
                await check_server(client, ledger)
                if number < times:
                    await _until_killed(server, client, ledger, chance, work)
    place.within(slowest_s, RESTART_S, "a restart")
    return (
        f"{times} kills, {ledger.writes} acknowledged writes: none lost, none stale, no phantom; "
        f"slowest restart {slowest_s:.1f} s with {len(ledger.acknowledged)} items"
    )


async def _until_killed(
    server: SearchServer, client: AsyncClient, ledger: Ledger, chance: random.Random, work: Work
) -> None:
    """Kills the server while it works."""
    working = asyncio.create_task(work(client, ledger, chance))
    await ledger.grow(chance.randint(1, MOST_WRITES), working)
    server.process.kill()
    (ended,) = await asyncio.gather(working, return_exceptions=True)
    check_ended(ended, RetryLater)


async def by_sigterm(place: Place, times: int) -> str:
    """Stopped as operators do it, under load, the server finishes what it has begun and tells the rest to retry."""
    ledger, versions, data = Ledger(), itertools.count(), place.new_folder("sigterm")
    slowest_s, chance = 0.0, random.Random(2)
    for _ in range(times):
        with place.serve(data) as server:
            async with AsyncClient(server.address, retries=ONCE) as client:
                await check_server(client, ledger)
                working = asyncio.create_task(change(client, ledger, chance, versions))
                await ledger.grow(chance.randint(1, MOST_WRITES), working)
                started = time.perf_counter()
                server.process.send_signal(signal.SIGTERM)
                code = await asyncio.to_thread(server.process.wait, 120)
                slowest_s = max(slowest_s, time.perf_counter() - started)
                (ended,) = await asyncio.gather(working, return_exceptions=True)
                check_ended(ended, RetryLater)
                assert code == 0, code
    await place.check(data, ledger)
    place.within(slowest_s, GRACE_S, "the slowest end")
    return f"{times} stops, {ledger.writes} acknowledged writes: none lost; slowest end {slowest_s:.1f} s"


async def by_sigterm_while_describing(place: Place, times: int) -> str:
    """The same while images wait for the model: each search is answered, or told to come again."""
    data, chance, told = place.new_folder("sigterm-describing"), random.Random(3), Counter[str]()
    image, slowest_s = encode(load_photo(64, 48)), 0.0
    for _ in range(times):
        with place.serve(data) as server:
            async with AsyncClient(server.address, retries=ONCE) as client:

                async def search(client: AsyncClient = client) -> None:
                    while True:
                        await client.search(image)
                        told["answered"] += 1

                searching = [asyncio.create_task(search()) for _ in range(SEARCHERS)]
                await asyncio.sleep(chance.uniform(0.1, 0.5))
                started = time.perf_counter()
                server.process.send_signal(signal.SIGTERM)
                code = await asyncio.to_thread(server.process.wait, 120)
                slowest_s = max(slowest_s, time.perf_counter() - started)
                for ended in await asyncio.gather(*searching, return_exceptions=True):
                    check_ended(ended, RetryLater)
                    told["told to come again"] += 1
                assert code == 0, code
    place.within(slowest_s, GRACE_S, "the slowest end")
    assert told["answered"] >= times
    return f"{times} stops, {dict(told)}; slowest end {slowest_s:.1f} s"


async def during_upkeep(place: Place, times: int) -> str:
    """The server is killed while it constantly merges, compacts and saves the index."""
    ledger, versions, data = Ledger(), itertools.count(), place.new_folder("upkeep")
    chance, halves = random.Random(8), 0
    for _ in range(times):
        with place.serve(data, program=("-m", "tests.faults.hurried")) as server:
            async with AsyncClient(server.address, retries=ONCE) as client:
                await check_server(client, ledger)
                working = asyncio.create_task(change(client, ledger, chance, versions))
                await ledger.grow(chance.randint(MOST_WRITES // 3, MOST_WRITES), working)
                server.process.kill()
                server.process.wait()
                halves += any(data.rglob(".snapshot-*"))
                (ended,) = await asyncio.gather(working, return_exceptions=True)
                check_ended(ended, RetryLater)
    await place.check(data, ledger)
    names = sorted(path.name.partition("-")[0] for path in (data / INDEXES / "1").iterdir())
    assert names == ["matrix", "snapshot"], names
    assert halves or times < MANY, "no kill came while a snapshot was written"
    return f"{times} kills, {halves} with half a snapshot: nothing lost, nothing left over"


async def during_backup(place: Place, times: int) -> str:
    """`pspsearch backup` is killed; the backup before it stays, and the next one succeeds in the same place."""
    folder, chance, halves = place.new_folder("backup-killed"), random.Random(9), 0
    data, copy = folder / "data", folder / "copy"
    with place.serve(data) as server:
        async with AsyncClient(server.address) as client:
            fingerprint = await fingerprint_of(client)
            image = encode(load_photo(64, 48))
            await client.upsert([item("0", 0, fingerprint)])
            for number in range(PICTURES):
                padded = image + number.to_bytes(4) + bytes(PADDING)
                await client.upsert([ItemInput(f"p{number}", padded, {"version": -1})])
    back_up(data, folder / "first")
    before = (folder / "first").read_bytes()
    incoming = copy.with_name("copy.incoming")
    command = [sys.executable, "-m", "pspsearch", "backup", str(data), str(copy)]
    for _ in range(times):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            written = 0.5 * chance.random() * len(before)
            while process.poll() is None and not (incoming.exists() and incoming.stat().st_size >= written):
                await asyncio.sleep(0.001)
            process.kill()
        halves += not copy.exists()
        copy.unlink(missing_ok=True)
    back_up(data, copy)
    assert sorted(path.name for path in folder.iterdir()) == ["copy", "data", "first"]
    assert (folder / "first").read_bytes() == before
    restore(copy, folder / "restored")
    assert halves > times / 2, f"only {halves} were killed in time"
    return f"{times} kills, {halves} in the middle: no half of a backup has its name, and the next one is whole"
