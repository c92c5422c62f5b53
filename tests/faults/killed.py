"""kill -9 and SIGTERM of a server that writes."""

import asyncio
import itertools
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from typing import Any

from pspsearch.client import AsyncClient, ItemInput
from pspsearch.errors import RetryLater
from tests.faults.place import ONCE, Ledger, Place, change, check_ended, check_server, fingerprint_of, item
from tests.search_server import SearchServer

RESTART_S = 10.0
"""For 100,000 items, the issue's own bound; there are fewer."""
WRITES_PER_S = 200

Work = Callable[[AsyncClient, Ledger, random.Random], Coroutine[Any, Any, None]]
"""Writes until it cannot any more."""


async def during_ingest(place: Place, times: int) -> str:
    """A stream of new items is broken off, each time after so many acknowledgements as chance will have it."""
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
    """Items are put in, replaced and deleted, a few in each call, by several callers with ids of their own."""
    return await _kill(place, "changes", times, partial(change, versions=itertools.count()))


async def _kill(place: Place, name: str, times: int, work: Work) -> str:
    """Again and again on one data folder, and looks after each time."""
    ledger, chance, data = Ledger(), random.Random(1), place.new_folder(name)
    slowest_s = writing_s = 0.0
    for number in range(times + 1):
        with place.serve(data) as server:
            slowest_s = max(slowest_s, server.ready_s)
            async with AsyncClient(server.address, retries=ONCE) as client:
                await check_server(client, ledger)
                if number < times:
                    writing_s += await _until_killed(server, client, ledger, chance, work)
    rate = ledger.writes / writing_s
    assert slowest_s < RESTART_S
    assert rate >= WRITES_PER_S, f"{rate:.0f} writes/s are too few to prove anything"
    return (
        f"{times} kills, {ledger.writes} acknowledged writes at {rate:.0f}/s: none lost, none stale, no phantom; "
        f"slowest restart {slowest_s:.1f} s with {len(ledger.acknowledged)} items"
    )


async def _until_killed(
    server: SearchServer, client: AsyncClient, ledger: Ledger, chance: random.Random, work: Work
) -> float:
    """Seconds from the first acknowledgement to the kill."""
    before = ledger.writes
    working = asyncio.create_task(work(client, ledger, chance))
    while ledger.writes == before:
        await asyncio.sleep(0.001)
        assert not working.done() or working.exception() is None, working.exception()
    started = time.perf_counter()
    await asyncio.sleep(0.6 * chance.random())
    server.process.kill()
    taken = time.perf_counter() - started
    (ended,) = await asyncio.gather(working, return_exceptions=True)
    check_ended(ended, RetryLater)
    return taken


async def by_sigterm(place: Place, times: int) -> str:
    """Stopped as an operator does it, under load: what was taken up is finished, and the rest is told to come again."""
    ledger, versions, data = Ledger(), itertools.count(), place.new_folder("sigterm")
    slowest_s, chance = 0.0, random.Random(2)
    for _ in range(times):
        with place.serve(data) as server:
            async with AsyncClient(server.address, retries=ONCE) as client:
                await check_server(client, ledger)
                working = asyncio.create_task(change(client, ledger, chance, versions))
                await asyncio.sleep(0.1 + 0.3 * chance.random())
                started = time.perf_counter()
                server.process.send_signal(signal.SIGTERM)
                code = await asyncio.to_thread(server.process.wait, 30)
                slowest_s = max(slowest_s, time.perf_counter() - started)
                (ended,) = await asyncio.gather(working, return_exceptions=True)
                check_ended(ended, RetryLater)
                assert code == 0, code
    await place.check(data, ledger)
    assert slowest_s < 10, "the grace period"
    return f"{times} stops, {ledger.writes} acknowledged writes: none lost; slowest end {slowest_s:.1f} s"
