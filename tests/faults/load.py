"""More load than a server can answer, more data than it can hold, and load for a long time."""

import asyncio
import contextlib
import itertools
import os
import random
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import psutil

from pspsearch.client import AsyncClient, Descriptor, ItemInput
from pspsearch.errors import MemoryFull, Overloaded, PspsearchError
from tests.bench.bench_search import by_chance_ms
from tests.bench.bench_search import load as closed_loop
from tests.faults.place import ONCE, Place, fingerprint_of, item, point
from tests.pictures import encode, load_photo
from tests.servers.search_server import SearchServer, serve

CALLERS = (8, 16, 32)
TIMES, GOODPUT, REFUSED_MS = 5, 0.9, 10
HELD, BATCH, TEXT = 30_000, 100, 8_000
OF_MEMORY = 1.2
SOAKED_ITEMS = 250
DRIFT, GROWTH, LONG_S = 0.1, 0.05, 300
"""How much may change over a long time, and from how many seconds on this counts; before, chance decides."""


async def overload(place: Place, seconds: int) -> str:
    """At five times as many searches by image as it can answer, at random moments, it still does most of its work.

    The callers have half of the cores, and the server the others. Their clients do not send what is sure to be refused;
    what the server itself refuses has its request's id.
    """
    image = encode(load_photo(500, 375))
    refused_ms: list[float] = []
    answered, unsent = 0, 0
    others: list[PspsearchError] = []
    with _serve_apart(place.new_folder("overload")) as server:
        async with AsyncClient(server.address, retries=ONCE) as client:
            before = await _closed_loops(client, image)

            async def call() -> None:
                nonlocal answered, unsent
                started = time.perf_counter()
                try:
                    await client.search(image)
                    answered += 1
                except Overloaded as error:
                    if error.request_id:
                        refused_ms.append(1000 * (time.perf_counter() - started))
                    else:
                        unsent += 1
                except PspsearchError as error:
                    others.append(error)

            started = time.perf_counter()
            await by_chance_ms(call, TIMES * max(before), seconds)
            goodput = answered / (time.perf_counter() - started)
        async with AsyncClient(server.address, retries=ONCE) as other:
            after = await _closed_loops(other, image)  # the machine may have changed its speed
    peak = max((first + second) / 2 for first, second in zip(before, after, strict=True))
    assert others == [], others[-3:]
    told = (
        f"{answered + len(refused_ms) + unsent} calls in {seconds} s: {goodput:.0f} answers/s of {peak:.0f} at best "
        f"({goodput / peak:.2f}), {len(refused_ms)} refused in {np.median(refused_ms):.0f} ms (p50), {unsent} not sent"
    )
    assert goodput >= GOODPUT * peak, told
    assert np.median(refused_ms) <= REFUSED_MS, told
    return told


async def _closed_loops(client: AsyncClient, image: bytes) -> list[float]:
    """Answers per second for some numbers of callers."""
    return [await closed_loop(lambda: client.search(image), callers) for callers in CALLERS]


@contextlib.contextmanager
def _serve_apart(data: Path) -> Generator[SearchServer]:
    """The shipped model, which takes its time, on other cores than this process has until it ends."""
    cores = sorted(os.sched_getaffinity(0))
    try:
        _keep_to(cores[: len(cores) // 2] or cores)
        with serve(data, "") as server:
            _keep_to(cores[len(cores) // 2 :])
            yield server
    finally:
        _keep_to(cores)


def _keep_to(cores: Sequence[int]) -> None:
    for thread in psutil.Process().threads():
        os.sched_setaffinity(thread.id, cores)


async def memory(place: Place, seconds: int) -> str:
    """A server may use a fifth more than what it has loaded: it refuses what does not fit, and lives on."""
    data, numbers = place.new_folder("memory"), itertools.count()
    with place.serve(data) as server:
        async with AsyncClient(server.address) as client:
            while next(numbers) < HELD:
                await _put(client, numbers)
    with place.serve(data) as server:
        loaded_bytes = _anonymous_bytes(server.process.pid)
    most_bytes, highest_bytes = int(OF_MEMORY * loaded_bytes), 0
    put, refused, searched = 0, 0, 0
    with place.serve(data, "--memory-bytes", str(most_bytes)) as server:
        async with AsyncClient(server.address, retries=ONCE) as client:
            fingerprint = await fingerprint_of(client)
            query = Descriptor(point("0", 0), fingerprint)
            until = time.perf_counter() + seconds
            while time.perf_counter() < until or not refused:
                try:
                    await _put(client, numbers)
                    put += BATCH
                except MemoryFull:
                    refused += 1
                    await asyncio.sleep(0.01)
                assert (await client.search(query)).hits
                searched += 1
                highest_bytes = max(highest_bytes, _anonymous_bytes(server.process.pid))
                assert put < HELD, "nothing is refused"
            assert server.process.poll() is None
    assert highest_bytes <= most_bytes, f"{highest_bytes >> 20} MiB of {most_bytes >> 20}"
    return (
        f"{seconds} s with at most {most_bytes >> 20} MiB, {loaded_bytes >> 20} of them loaded: {put} items put in, "
        f"{refused} calls refused, {searched} searches answered, {highest_bytes >> 20} MiB at most"
    )


async def _put(client: AsyncClient, numbers: "itertools.count[int]") -> None:
    """Inserts items that need much memory."""
    fingerprint, chance = await fingerprint_of(client), random.Random(next(numbers))
    ids = [f"i{next(numbers)}" for _ in range(BATCH)]
    inputs = [item(id_, 0, fingerprint) for id_ in ids]
    await client.upsert([_with_text(one, chance) for one in inputs])


def _with_text(one: ItemInput, chance: random.Random) -> ItemInput:
    return replace(one, attributes={"text": chance.randbytes(TEXT // 2).hex()})


def _anonymous_bytes(pid: int) -> int:
    used = psutil.Process(pid).memory_info()
    return used.rss - used.shared


@dataclass
class _Usage:
    """The usage at one moment."""

    memory_bytes: int
    files: int
    threads: int


@dataclass
class _Soak:
    """The measurements, in order of time."""

    times_ms: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    usage: list[_Usage] = field(default_factory=list[_Usage])


async def soak(place: Place, seconds: int) -> str:
    """Searches, writes and deletions run at a steady pace: nothing grows, nothing slows down."""
    seen, image = _Soak(), encode(load_photo(300, 200))
    versions = itertools.count()
    server = place.shared()
    process = psutil.Process(server.process.pid)
    async with AsyncClient(server.address) as client:
        fingerprint = await fingerprint_of(client)
        await client.upsert([item(f"i{number}", 0, fingerprint) for number in range(SOAKED_ITEMS)])
        chance = random.Random(10)

        async def act() -> None:
            id_ = f"i{chance.randrange(SOAKED_ITEMS)}"
            acts: list[Callable[[], Awaitable[object]]] = [
                lambda: client.search(image, filter="version >= 0"),
                lambda: client.search(Descriptor(point(id_, 0), fingerprint)),
                lambda: client.upsert([item(id_, next(versions), fingerprint)]),
                lambda: client.delete([id_]),
            ]
            started = time.perf_counter()
            await chance.choice(acts)()
            seen.times_ms.append((started, 1000 * (time.perf_counter() - started)))

        until = time.perf_counter() + seconds
        while (now := time.perf_counter()) < until:
            await act()
            if not seen.usage or len(seen.times_ms) % 100 == 0:
                seen.usage.append(_Usage(process.memory_info().rss, process.num_fds(), process.num_threads()))
            await asyncio.sleep(max(0.0, 0.01 - (time.perf_counter() - now)))
    return _judge(seen, seconds)


def _judge(seen: _Soak, seconds: int) -> str:
    """Compares the second fifth with the last."""
    fifth, usual = len(seen.usage) // 5, len(seen.times_ms) // 5
    early, late = seen.usage[fifth : 2 * fifth] or seen.usage[:1], seen.usage[-fifth:] or seen.usage[-1:]
    first_ms = float(np.percentile([took for _, took in seen.times_ms[usual : 2 * usual]], 99))
    last_ms = float(np.percentile([took for _, took in seen.times_ms[-usual:]], 99))
    grown = np.median([one.memory_bytes for one in late]) / np.median([one.memory_bytes for one in early]) - 1
    files = max(one.files for one in late) - max(one.files for one in early)
    threads = max(one.threads for one in late) - max(one.threads for one in early)
    told = (
        f"{seconds} s, {len(seen.times_ms)} calls: memory {100 * grown:+.1f} %, {files:+d} files, "
        f"{threads:+d} threads, p99 {first_ms:.1f} to {last_ms:.1f} ms"
    )
    assert files <= 2, told
    assert threads <= 2, told
    if seconds >= LONG_S:
        assert grown <= GROWTH, told
        assert last_ms <= (1 + DRIFT) * first_ms, told
    return told
