"""Triton dies or stops answering under the server that started it."""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import psutil

from pspsearch.client import AsyncClient, ServerUnavailable
from pspsearch.errors import DeadlineExceeded, Overloaded, PspsearchError, TritonUnavailable
from pspsearch.triton.owned_name import SHARED_MEMORY
from tests.faults.place import MODEL, ONCE, Place
from tests.pictures import encode, load_photo
from tests.servers.search_server import SearchServer, serve

CALLERS = 4
TOLD_S, RECOVERED_S, LATE_S = 1.0, 10.0, 0.05
"""How long until a caller is told, until it gets answers again, and past its own deadline."""
TIMEOUT_S, PATIENCE_S = 2.0, 60.0
"""The timeout of calls if times are judged, and if they are not."""
INSTANCES = 2
TARGETS = ("tritonserver", "triton_python_backend_stub")


@dataclass
class _Seen:
    """What callers that never pause see."""

    failed: Counter[type[PspsearchError]] = field(default_factory=Counter[type[PspsearchError]])
    """Counts and not errors: thousands of errors, with all that their frames hold, would slow this process down."""
    slowest_told_s: float = 0.0
    """Counted from the call, or from the last kill if it came during the call."""
    slowest: str = ""
    latest_s: float = 0.0
    """How long past a deadline."""
    answered: float = 0.0
    """When the last answer came; `killed` is when the last kill was."""
    killed: float = 0.0


async def killed(place: Place, times: int) -> str:
    """kill -9 of Triton and of its Python processes in turn, during searches."""
    slowest_s, seen = 0.0, _Seen()
    before = _regions()
    with _serve(place, "triton-killed") as server:
        timeout_s = TIMEOUT_S if place.timed else PATIENCE_S
        async with AsyncClient(server.address, retries=ONCE, timeout_s=timeout_s) as client:
            stop = asyncio.Event()
            callers = [asyncio.create_task(_call(client, seen, stop)) for _ in range(CALLERS)]
            await _answered_since(seen, time.perf_counter())
            for number in range(times):
                victim = await _victim(server, TARGETS[number % 2])
                await _answered_since(seen, time.perf_counter())
                victim.kill()
                seen.killed = died = time.perf_counter()
                while not _ended(victim):
                    await asyncio.sleep(0.01)
                await _answered_since(seen, time.perf_counter() + 0.2)
                slowest_s = max(slowest_s, seen.answered - died)
                place.within(slowest_s, RECOVERED_S, f"the recovery from the death of {victim}")
            stop.set()
            await asyncio.gather(*callers)
    assert seen.failed.keys() <= {TritonUnavailable, Overloaded, DeadlineExceeded}, seen.failed
    late = seen.failed[DeadlineExceeded]
    assert not late, f"{late} callers were told nothing in {timeout_s} s"
    place.within(seen.slowest_told_s, TOLD_S, f"telling {seen.slowest}")
    assert _regions() <= before, "shared memory is left over"
    return (
        f"{times} kills, {seen.failed.total()} calls told to come again, "
        f"in {1000 * seen.slowest_told_s:.0f} ms at most; slowest recovery {slowest_s:.1f} s; /dev/shm clean"
    )


async def stopped(place: Place, seconds: int) -> str:
    """SIGSTOP: callers hear at their deadlines that there is no answer, and get answers after it continues."""
    seen = _Seen()
    with _serve(place, "triton-stopped") as server:
        async with AsyncClient(server.address, retries=ONCE, timeout_s=0.5) as client:
            stop = asyncio.Event()
            callers = [asyncio.create_task(_call(client, seen, stop)) for _ in range(CALLERS)]
            await _answered_since(seen, time.perf_counter())
            asleep = [child for name in TARGETS for child in children_of(server.process.pid, name)]
            for child in asleep:
                child.suspend()
            await asyncio.sleep(seconds)
            status = await client.status()
            for child in asleep:
                child.resume()
            woken = time.perf_counter()
            await _answered_since(seen, woken)
            recovered_s = seen.answered - woken
            stop.set()
            await asyncio.gather(*callers)
            assert (await client.status()).requests_in_flight == 1
    assert status.requests_in_flight <= 2 * CALLERS, "calls whose callers have left are still under way"
    assert recovered_s < RECOVERED_S
    assert seen.latest_s < LATE_S, f"{1000 * seen.latest_s:.0f} ms past the deadline"
    assert seen.failed[DeadlineExceeded]
    return (
        f"{seconds} s, {seen.failed.total()} calls refused, "
        f"{1000 * seen.latest_s:.0f} ms past their deadlines at most; answered {recovered_s:.2f} s after it went on"
    )


def _serve(place: Place, name: str) -> AbstractContextManager[SearchServer]:
    """A server with its own Triton."""
    return serve(place.new_folder(name), "", "--repository", str(place.repository), "--model", MODEL)


async def _call(client: AsyncClient, seen: _Seen, stop: asyncio.Event) -> None:
    image, chance = encode(load_photo(64, 48)), random.Random(0)
    while not stop.is_set():
        started = time.perf_counter()
        try:
            await client.search(image)
            seen.answered = time.perf_counter()
        except ServerUnavailable:
            raise
        except PspsearchError as error:
            seen.failed[type(error)] += 1
            now = time.perf_counter()
            if isinstance(error, DeadlineExceeded):
                seen.latest_s = max(seen.latest_s, now - started - (client._timeout_s or 0))
            elif (told_s := now - max(started, seen.killed)) > seen.slowest_told_s:
                seen.slowest_told_s, seen.slowest = told_s, repr(error)
            await asyncio.sleep(0.02 * chance.random())


async def _answered_since(seen: _Seen, moment: float) -> None:
    while seen.answered < moment:
        await asyncio.sleep(0.01)
        assert time.perf_counter() < moment + 60, "no answer comes any more"


async def _victim(server: SearchServer, name: str) -> psutil.Process:
    """A process with that name, once all of them exist."""
    while len(list(children_of(server.process.pid, TARGETS[1]))) < INSTANCES:
        await asyncio.sleep(0.05)
    return next(children_of(server.process.pid, name))


def children_of(pid: int, name: str) -> Iterator[psutil.Process]:
    """The present descendants with that name."""
    for child in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # one may end while the next is looked at
            if child.name().startswith(name[:15]) and not _ended(child):
                yield child


def _ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # it was reaped, perhaps just now
        return True


def _regions() -> set[str]:
    return {region.name for region in SHARED_MEMORY.glob("pspsearch-*")}
