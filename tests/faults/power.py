"""Power that goes, and a disk that fails."""

import asyncio
import itertools
import random
import time
from pathlib import Path

from pspsearch.client import AsyncClient
from pspsearch.errors import PspsearchError
from tests.faults.disk import after_power_loss, begin_record
from tests.faults.place import ONCE, Ledger, Place, check_server, fingerprint_of, item

TASKS, IDS_EACH = 4, 25
TOLD_S = 5.0


async def _write(client: AsyncClient, ledger: Ledger, versions: "itertools.count[int]", chance: random.Random) -> None:
    """Until it is told that it cannot."""
    fingerprint = await fingerprint_of(client)

    async def go_on(task: int) -> None:
        while True:
            ids = chance.sample([f"{task}/{number}" for number in range(IDS_EACH)], 2)
            if chance.random() < 0.3:
                for id_ in ids:
                    ledger.send(id_, None)
                await client.delete(ids)
            else:
                sent = {id_: next(versions) for id_ in ids}
                for id_, version in sent.items():
                    ledger.send(id_, version)
                await client.upsert([item(*one, fingerprint) for one in sent.items()])
            for id_ in ids:
                ledger.acknowledge(id_)

    await asyncio.gather(*(go_on(task) for task in range(TASKS)))


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
                writing = asyncio.create_task(_write(client, ledger, versions, chance))
                await asyncio.sleep(0.1 + 0.5 * chance.random())
                server.process.kill()
                (ended,) = await asyncio.gather(writing, return_exceptions=True)
                assert isinstance(ended, PspsearchError), ended
                assert ledger.writes > before

        def keep(number: int = number) -> bool:
            return bool(number % 2) and chance.random() < 0.5

        after_power_loss(data, shadow, target, keep)
        data = target
    with place.serve(data) as server:
        async with AsyncClient(server.address, retries=ONCE) as client:
            await check_server(client, ledger)
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
                writing = asyncio.create_task(_write(client, ledger, versions, chance))
                await asyncio.sleep(0.1 + 0.2 * chance.random())
                acknowledged = await _break(flag, ledger)
                (ended,) = await asyncio.gather(writing, return_exceptions=True)
                assert isinstance(ended, PspsearchError), ended
                started = time.perf_counter()
                code = await asyncio.to_thread(server.process.wait, 30)
                slowest_s = max(slowest_s, time.perf_counter() - started)
                assert code == 1, code
                assert ledger.writes - acknowledged <= 2 * TASKS, "writes were acknowledged after the disk had failed"
    with place.serve(folder / "data") as server:
        async with AsyncClient(server.address, retries=ONCE) as client:
            await check_server(client, ledger)
    assert slowest_s < TOLD_S
    return f"{times} times, {ledger.writes} acknowledged writes: none lost, none after it; ended in {slowest_s:.1f} s"


async def _break(flag: Path, ledger: Ledger) -> int:
    """What was acknowledged until then."""
    flag.touch()
    return ledger.writes
