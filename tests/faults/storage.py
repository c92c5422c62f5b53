"""Loss of power, and disks that fail, are full, or take no writes."""

import asyncio
import itertools
import random
import time
from pathlib import Path

from pspsearch.client import AsyncClient, Descriptor
from pspsearch.errors import PspsearchError, StorageFull, StorageReadOnly
from tests.faults.disk import after_power_loss, begin_record
from tests.faults.place import (
    CALLERS,
    MODEL,
    MOST_AT_ONCE,
    ONCE,
    Ledger,
    Place,
    change,
    check_ended,
    check_server,
    fingerprint_of,
    item,
    point,
)
from tests.servers.search_server import why_refused

TOLD_S = 5.0
MOST_WRITES = 300
"""The most writes until the fault; chance decides how many."""


async def lost(place: Place, times: int) -> str:
    """Everything unsynced is gone, or in every second run a part of it, file by file."""
    folder, ledger, chance = place.new_folder("power"), Ledger(), random.Random(4)
    versions = itertools.count()
    data = folder / "0"
    for number in range(times):
        shadow, target = folder / f"shadow-{number}", folder / str(number + 1)
        begin_record(data, shadow)
        with place.serve(data, program=("-m", "tests.faults.disk", "record", str(shadow))) as server:
            async with AsyncClient(server.address, retries=ONCE) as client:
                await check_server(client, ledger)
                writing = asyncio.create_task(change(client, ledger, chance, versions))
                await ledger.grow(chance.randint(1, MOST_WRITES), writing)
                server.process.kill()
                (ended,) = await asyncio.gather(writing, return_exceptions=True)
                check_ended(ended, PspsearchError)

        def keeps(number: int = number) -> bool:
            return bool(number % 2) and chance.random() < 0.5

        after_power_loss(data, shadow, target, keeps)
        data = target
    await place.check(data, ledger)
    return f"{times} times, {ledger.writes} acknowledged writes: none lost; it started every time"


async def failed(place: Place, times: int) -> str:
    """Nothing is acknowledged that could not be synced; the server ends and says why, and the next one has the rest."""
    folder, ledger, chance = place.new_folder("disk"), Ledger(), random.Random(5)
    versions = itertools.count()
    slowest_s = 0.0
    for number in range(times):
        flag = folder / f"flag-{number}"
        with place.serve(folder / "data", program=("-m", "tests.faults.disk", "unsynced", str(flag))) as server:
            async with AsyncClient(server.address, retries=ONCE) as client:
                await check_server(client, ledger)
                writing = asyncio.create_task(change(client, ledger, chance, versions))
                await ledger.grow(chance.randint(1, MOST_WRITES), writing)
                flag.touch()
                acknowledged = ledger.writes
                (ended,) = await asyncio.gather(writing, return_exceptions=True)
                check_ended(ended, PspsearchError)
                started = time.perf_counter()
                code = await asyncio.to_thread(server.process.wait, 120)
                slowest_s = max(slowest_s, time.perf_counter() - started)
                assert code == 1, code
                assert ledger.writes - acknowledged <= CALLERS * MOST_AT_ONCE, (
                    "writes were acknowledged after the disk had failed"
                )
    await place.check(folder / "data", ledger)
    place.within(slowest_s, TOLD_S, "the slowest end")
    return f"{times} times, {ledger.writes} acknowledged writes: none lost, none after it; ended in {slowest_s:.1f} s"


async def full(place: Place, times: int) -> str:
    """There is no room from the first write on, from the second, and so on; searches continue, and later writes do."""
    return await _refuse(place, "full", StorageFull, times)


async def readonly(place: Place, times: int) -> str:
    """The same on a disk that becomes read-only; and a server that starts there says so."""
    told = await _refuse(place, "readonly", StorageReadOnly, times)
    folder = place.new_folder("readonly-start")
    flag = folder / "flag"
    flag.touch()
    program = ("-m", "tests.faults.disk", "readonly", str(flag))
    said = await asyncio.to_thread(why_refused, folder / "data", place.triton, "--model", MODEL, program=program)
    assert "cannot be used: Read-only file system" in said
    return told


async def _refuse(place: Place, mode: str, kind: type[PspsearchError], times: int) -> str:
    """Each time, one more write succeeds before the fault."""
    folder, ledger, numbers = place.new_folder(mode), Ledger(), itertools.count()
    flag, refused = folder / "flag", 0
    with place.serve(folder / "data", program=("-m", "tests.faults.disk", mode, str(flag))) as server:
        async with AsyncClient(server.address, retries=ONCE) as client:
            fingerprint = await fingerprint_of(client)

            async def put() -> None:
                number = next(numbers)
                ledger.send(f"i{number}", number)
                await client.upsert([item(f"i{number}", number, fingerprint)])
                ledger.acknowledge(f"i{number}")

            await put()
            await put()
            first = Descriptor(point("i1", 1), fingerprint)
            for round_ in range(times):
                _become(flag, str(round_))
                for _ in range(round_ + 2):
                    try:
                        await put()
                    except kind:
                        refused += 1
                        ledger.doubtful.clear()  # what is refused is not stored
                try:
                    await client.delete(["i0"])
                except kind:
                    refused += 1
                else:
                    ledger.acknowledged.pop("i0", None)
                ledger.check({one.id: int(one.attributes["version"]) async for one in client.list(page_size=1000)})
                assert (await client.search(first, limit=1)).hits[0].score > 0.999
                flag.unlink()
                await put()
                await check_server(client, ledger)
                assert server.process.poll() is None
    await place.check(folder / "data", ledger)
    assert refused >= 2 * times, f"of {times} times {refused} calls were refused"
    return f"{times} times, {refused} calls refused as {kind.__name__}, searches went on, writes did afterwards"


def _become(flag: Path, content: str) -> None:
    incoming = flag.with_suffix(".incoming")
    incoming.write_text(content)
    incoming.rename(flag)
