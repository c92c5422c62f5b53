"""Hostile filters, as long as allowed and over wide items, beside ordinary writes and searches."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from pspsearch.client import AsyncClient, Descriptor, ItemInput
from pspsearch.errors import InvalidRequest
from tests.faults.place import ONCE, Place, fingerprint_of, item, point

ATTACKED = "attacked"
WIDE, NAMES, HOSTS = 200, 4000, 4
MANY_ROUNDS = 50
SLOWEST_MS = 2000
"""The limit for an ordinary call, in a long run; one deletion held the single writer for 8.3 s."""

T = TypeVar("T")


@dataclass
class _Told:
    """How the ordinary calls and the hostile ones ended."""

    written: int = 0
    searched: int = 0
    slowest_ms: dict[str, float] = field(default_factory=dict[str, float])
    times_ms: list[float] = field(default_factory=list[float])
    hostile: Counter[str] = field(default_factory=Counter[str])


async def hostile(place: Place, rounds: int) -> str:
    """So many rounds of hostile filters by several callers; ordinary calls meanwhile get right answers."""
    told = _Told()
    with place.serve(place.new_folder("filters")) as server:
        async with AsyncClient(server.address, retries=ONCE) as client:
            fingerprint = await fingerprint_of(client)
            await client.create_collection(ATTACKED)
            for start in range(0, WIDE, 50):
                wide = [_wide(number, fingerprint) for number in range(start, min(start + 50, WIDE))]
                await client.upsert(wide, collection=ATTACKED)
            done = asyncio.Event()
            ordinary = asyncio.create_task(_go_on(client, fingerprint, told, done))
            turns = itertools.count()

            async def attack() -> None:
                while (number := next(turns)) < rounds:
                    async with AsyncClient(server.address, retries=ONCE) as other:
                        await _attack(other, fingerprint, number, told)

            try:
                await asyncio.gather(*(attack() for _ in range(HOSTS)))
            finally:
                done.set()
            await ordinary
            assert await client.count() == told.written
            assert await client.count(collection=ATTACKED) == WIDE
    words = (
        f"{rounds} rounds: {told.hostile['answered']} hostile filters answered, {told.hostile['refused']} refused; "
        f"beside them {told.written} writes and {told.searched} searches, all right, p99 "
        f"{np.percentile(told.times_ms, 99):.0f} ms, slowest write {told.slowest_ms['write']:.0f} ms, "
        f"slowest search {told.slowest_ms['search']:.0f} ms"
    )
    assert told.written, words
    assert told.hostile["answered"], words
    assert told.hostile["refused"], words
    assert rounds < MANY_ROUNDS or max(told.slowest_ms.values()) < SLOWEST_MS, words
    return words


def _wide(number: int, fingerprint: str) -> ItemInput:
    """An item with about as many attributes as fit."""
    attributes = {f"a{name}": number for name in range(NAMES)}
    return replace(item(f"w{number}", number, fingerprint), attributes=attributes)


async def _attack(client: AsyncClient, fingerprint: str, number: int, told: _Told) -> None:
    """Sends each kind once; no two filters are the same, and none matches an item."""
    query = Descriptor(point("w0", 0), fingerprint)
    names = [f"a{name}" for name in range(number % 100, NAMES, 7)]
    comparisons = " ".join(f"{name}>=0" for name in names[:560]) + f" b={number}"
    unequal = " OR ".join(f"{name}!=x{number}" for name in names[:400])
    patterns = " OR ".join(f"{name}=*{number}*b" for name in names[:10])
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: client.delete(filter=comparisons, collection=ATTACKED),
        lambda: client.search(query, filter=comparisons, collection=ATTACKED),
        lambda: client.count(filter=f"({unequal}) z={number}", collection=ATTACKED),
        lambda: client.search(query, filter=patterns, collection=ATTACKED),
        lambda: client.count(filter=" OR ".join(f"a{name}:*" for name in range(number, number + 900))[:8190]),
        lambda: client.count(filter=comparisons + " AND ("),
        lambda: client.delete(filter=f"user = {2**64 + number}"),
    ]
    for call in calls:
        try:
            await call()
            told.hostile["answered"] += 1
        except InvalidRequest:
            told.hostile["refused"] += 1


async def _go_on(client: AsyncClient, fingerprint: str, told: _Told, done: asyncio.Event) -> None:
    """Upserts an item and searches for it with a filter, in another collection, until `done`."""
    while not done.is_set():
        id_, user = f"i{told.written}", 2**53 + told.written
        one = replace(item(id_, 0, fingerprint), attributes={"user": user})
        (acknowledged,) = await _timed(client.upsert([one]), "write", told)
        assert acknowledged.error is None
        told.written += 1
        answer = await _timed(
            client.search(Descriptor(point(id_, 0), fingerprint), filter=f"user = {user}"), "search", told
        )
        assert [hit.id for hit in answer.hits] == [id_]
        told.searched += 1


async def _timed(call: Awaitable[T], kind: str, told: _Told) -> T:
    started = time.perf_counter()
    answer = await call
    took_ms = 1000 * (time.perf_counter() - started)
    told.times_ms.append(took_ms)
    told.slowest_ms[kind] = max(told.slowest_ms.get(kind, 0.0), took_ms)
    return answer
