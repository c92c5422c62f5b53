"""Triton dies under the server that started it."""

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
from pspsearch.triton.claim import SHARED_MEMORY
from tests.faults.place import MODEL, ONCE, Place
from tests.pictures import encode, load_photo
from tests.search_server import SearchServer, serve

CALLERS = 4
TOLD_S, RECOVERED_S = 1.0, 10.0
"""Until a caller is told, and until it is answered again."""
TIMEOUT_S = 2.0
INSTANCES = 2
TARGETS = ("tritonserver", "triton_python_backend_stub")


@dataclass
class _Seen:
    """By callers that never pause."""

    failed: Counter[type[PspsearchError]] = field(default_factory=Counter[type[PspsearchError]])
    """Not the errors: to collect thousands, with all that their frames hold, would hold this process up."""
    slowest_told_s: float = 0.0
    """From the call on, or from the last kill, where that came while it was worked on."""
    slowest: str = ""
    answered: float = 0.0
    """When last, as the next."""
    killed: float = 0.0


async def killed(place: Place, times: int) -> str:
    """kill -9 of Triton and of its Python processes in turn, with searches going on."""
    slowest_s, seen = 0.0, _Seen()
    before = _regions()
    with _serve(place, "triton-killed") as server:
        async with AsyncClient(server.address, retries=ONCE, timeout_s=TIMEOUT_S) as client:
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
                assert slowest_s < RECOVERED_S, f"{victim} killed: answered again after {slowest_s:.1f} s"
            stop.set()
            await asyncio.gather(*callers)
    assert seen.failed.keys() <= {TritonUnavailable, Overloaded, DeadlineExceeded}, seen.failed
    late = seen.failed[DeadlineExceeded]
    assert not late, f"{late} callers were told nothing in {TIMEOUT_S} s"
    assert seen.slowest_told_s < TOLD_S, f"{seen.slowest_told_s:.2f} s until {seen.slowest} was told"
    assert _regions() <= before, "shared memory is left over"
    return (
        f"{times} kills, {seen.failed.total()} calls told to come again, "
        f"in {1000 * seen.slowest_told_s:.0f} ms at most; slowest recovery {slowest_s:.1f} s; /dev/shm clean"
    )


def _serve(place: Place, name: str) -> AbstractContextManager[SearchServer]:
    """With a Triton of its own."""
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
            if (told_s := now - max(started, seen.killed)) > seen.slowest_told_s:
                seen.slowest_told_s, seen.slowest = told_s, repr(error)
            await asyncio.sleep(0.02 * chance.random())


async def _answered_since(seen: _Seen, moment: float) -> None:
    while seen.answered < moment:
        await asyncio.sleep(0.01)
        assert time.perf_counter() < moment + 60, "no answer comes any more"


async def _victim(server: SearchServer, name: str) -> psutil.Process:
    """When all that there should be is there."""
    while len(list(children_of(server.process.pid, TARGETS[1]))) < INSTANCES:
        await asyncio.sleep(0.05)
    return next(children_of(server.process.pid, name))


def children_of(pid: int, name: str) -> Iterator[psutil.Process]:
    """Of that name; those that are there now."""
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
