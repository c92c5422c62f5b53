"""Power that goes, and a disk that fails."""

import asyncio
import itertools
import random
import time

from pspsearch.client import AsyncClient
from pspsearch.errors import PspsearchError
from tests.faults.disk import after_power_loss, begin_record
from tests.faults.place import CALLERS, MOST_AT_ONCE, ONCE, Ledger, Place, change, check_ended, check_server

TOLD_S = 5.0


async def lost(place: Place, times: int) -> str:
    """All that was not synced is gone, or in every second run a part of it, file by file."""
    folder, ledger, chance = place.new_folder("power"), Ledger(), random.Random(4)
    versions = itertools.count()
    data = folder / "0"
    for number in range(times):
        shadow, target = folder / f"shadow-{number}", folder / str(number + 1)
        begin_record(data, shadow)
        with place.serve(data, program=("-m", "tests.faults.disk", "record", str(shadow))) as server:
            async with AsyncClient(server.address, retries=ONCE) as client:
                await check_server(client, ledger)
                before = ledger.writes
                writing = asyncio.create_task(change(client, ledger, chance, versions))
                await asyncio.sleep(0.1 + 0.5 * chance.random())
                server.process.kill()
                (ended,) = await asyncio.gather(writing, return_exceptions=True)
                check_ended(ended, PspsearchError)
                assert ledger.writes > before

        def keep(number: int = number) -> bool:
            return bool(number % 2) and chance.random() < 0.5

        after_power_loss(data, shadow, target, keep)
        data = target
    await place.check(data, ledger)
    return f"{times} times, {ledger.writes} acknowledged writes: none lost; it started every time"


async def failed(place: Place, times: int) -> str:
    """Nothing is acknowledged that could not be synced, and the server ends and says why; the next one has the rest."""
    folder, ledger, chance = place.new_folder("disk"), Ledger(), random.Random(5)
    versions = itertools.count()
    slowest_s = 0.0
    for number in range(times):
        flag = folder / f"flag-{number}"
        with place.serve(folder / "data", program=("-m", "tests.faults.disk", "fail", str(flag))) as server:
            async with AsyncClient(server.address, retries=ONCE) as client:
                await check_server(client, ledger)
                writing = asyncio.create_task(change(client, ledger, chance, versions))
                await asyncio.sleep(0.1 + 0.2 * chance.random())
                flag.touch()
                acknowledged = ledger.writes
                (ended,) = await asyncio.gather(writing, return_exceptions=True)
                check_ended(ended, PspsearchError)
                started = time.perf_counter()
                code = await asyncio.to_thread(server.process.wait, 30)
                slowest_s = max(slowest_s, time.perf_counter() - started)
                assert code == 1, code
                assert ledger.writes - acknowledged <= CALLERS * MOST_AT_ONCE, (
                    "writes were acknowledged after the disk had failed"
                )
    await place.check(folder / "data", ledger)
    assert slowest_s < TOLD_S
    return f"{times} times, {ledger.writes} acknowledged writes: none lost, none after it; ended in {slowest_s:.1f} s"
