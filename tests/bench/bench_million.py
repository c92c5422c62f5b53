"""Searches by descriptor among a million, through the whole server, against the bare index.

The API writes the million once per model version; that and building the index take some minutes.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from pspsearch.client import AsyncClient, Descriptor, ItemInput
from pspsearch.config import BundledTritonSettings
from pspsearch.domain import Descriptors
from pspsearch.index.bases.making import read_base
from pspsearch.model.repository import default_repository
from pspsearch.triton.client import TritonClient
from pspsearch.triton.describer import TritonDescriber
from pspsearch.triton.process import BundledTriton
from tests.bench.bench_search import fill, load, state_of, timed
from tests.bench.points import clustered
from tests.servers.search_server import SearchServer, serve

ROWS, DIMENSION = 1_000_000, 256
QUERIES, HITS = 500, 10
SINGLE = 1500
CONCURRENCIES = (8, 16, 32)
BATCH = 32
UPSERTS_PER_S, UPSERT_S = 200, 60
MODEL = "pspnet"


async def main() -> None:
    """Prints recall, latency, throughput, start, memory, and latency under writes, each beside its target."""
    points = clustered(ROWS, DIMENSION, seed=1)
    queries = clustered(QUERIES, DIMENSION, seed=2)
    table = Table(title=f"search by descriptor over {ROWS:,} x {DIMENSION}, clustered, {HITS} hits")
    for heading in ("figure", "value", "target"):
        table.add_column(heading, justify="right")
    async with BundledTriton(BundledTritonSettings(default_repository())) as triton:
        data = await data_for(triton.address)
        with serve(data, triton.address) as server:
            async with AsyncClient(server.address, timeout_s=120) as client:
                filled_s = await put_in(client, points)
        if filled_s:
            table.add_row("put in through the API, items/s", f"{ROWS / filled_s:.0f}", "")
        with serve(data, triton.address) as server:
            async with AsyncClient(server.address, timeout_s=120) as client:
                await _measure(table, client, server, data, points, queries)
    Console().print(table)


async def data_for(triton: str) -> Path:
    """Where the million is kept; descriptors belong to one version of one model."""
    async with TritonClient(triton) as client, await TritonDescriber.open(client, MODEL) as describer:
        return Path(f".bench/million-{describer.version.contract.fingerprint}")


async def put_in(client: AsyncClient, points: Descriptors) -> float:
    """The seconds that writing took, without building the index; 0 if the million was already there."""
    seconds = 0.0
    if await client.count() < ROWS:
        started = time.perf_counter()
        await fill(client, points)
        seconds = time.perf_counter() - started
    while (await state_of(client)).background or (await state_of(client)).fresh_count > ROWS // 10:
        await asyncio.sleep(1)
    return seconds


async def _measure(
    table: Table, client: AsyncClient, server: SearchServer, data: Path, points: Descriptors, queries: Descriptors
) -> None:
    state = await state_of(client)
    table.add_row("index", state.index, "")
    table.add_row("rows that it does not cover yet", f"{state.fresh_count:,}", "")
    table.add_row("start to ready, s", f"{server.ready_s:.1f}", "<= 15")
    bound = 1.5 * state.index_bytes + 300e6
    table.add_row("resident memory, MB", f"{server.memory_bytes / 1e6:.0f}", f"<= {bound / 1e6:.0f}")
    asked = [Descriptor(query, state.origin.fingerprint) for query in queries]
    answers = [await client.search(query, limit=HITS) for query in asked]
    found = [{int(hit.id[1:]) for hit in answer.hits} for answer in answers]
    recall = np.mean([len(ids & set(true)) / HITS for ids, true in zip(found, truth(points, queries), strict=True)])
    table.add_row(f"recall@{HITS}, measured by the server", f"{state.measured_recall:.3f}", "")
    table.add_row(f"recall@{HITS}, other queries", f"{recall:.3f}", ">= 0.95")
    turn = iter(range(1 << 60))

    async def ask() -> object:
        return await client.search(asked[next(turn) % QUERIES], limit=HITS)

    quiet = [await timed(ask) for _ in range(SINGLE)]
    table.add_row("p50 at concurrency 1, ms", f"{np.median(quiet):.2f}", "<= 2")
    table.add_row("p99 at concurrency 1, ms", f"{np.percentile(quiet, 99):.2f}", "")
    best = max([await load(ask, concurrency) for concurrency in CONCURRENCIES])
    table.add_row("best throughput, searches/s", f"{best:.0f}", ">= 1000")
    batched = BATCH * max([await load(lambda: client.search_batch(asked[:BATCH], limit=HITS), n) for n in (2, 4, 8)])
    table.add_row(f"the same in batches of {BATCH}", f"{batched:.0f}", "")
    bare = await asyncio.to_thread(_bare, data, queries)
    table.add_row(f"bare index in batches of {BATCH}, searches/s", f"{bare:.0f}", "")
    table.add_row("bare index over server, both in batches", f"{bare / batched:.2f}", "<= 1.3")
    busy, words = await _under_writes(client, ask, points, state.origin.fingerprint)
    ratio = np.percentile(busy, 99) / np.percentile(quiet, 99)
    table.add_row(f"p99 under {UPSERTS_PER_S} upserts/s ({words}), ms", f"{np.percentile(busy, 99):.2f}", "")
    table.add_row("that p99 over the quiet one", f"{ratio:.2f}", "<= 2")


def truth(points: Descriptors, queries: Descriptors) -> NDArray[np.int64]:
    """The rows nearest to each query, by plain scores, in blocks."""
    best = np.zeros((len(queries), 0), np.float32)
    rows = np.zeros((len(queries), 0), np.int64)
    for first in range(0, len(points), 50_000):
        scores = np.hstack([best, queries @ points[first : first + 50_000].T])
        numbers = np.hstack([rows, np.tile(np.arange(first, min(first + 50_000, len(points))), (len(queries), 1))])
        top = np.argpartition(-scores, HITS, axis=1)[:, :HITS]
        best, rows = np.take_along_axis(scores, top, 1), np.take_along_axis(numbers, top, 1)
    return rows


def _bare(data: Path, queries: Descriptors) -> float:
    """The same base, from the server's own snapshot, without the server."""
    (folder,) = (data / "indexes").iterdir()
    snapshot = max(folder.glob("snapshot-*"), key=lambda path: path.stat().st_mtime)
    matrix = max(folder.glob("matrix-*"), key=lambda path: path.stat().st_mtime)
    rows = np.memmap(matrix, np.float16, "r")
    base = read_base(snapshot / "base", rows[: len(rows) // DIMENSION * DIMENSION].reshape(-1, DIMENSION))
    batches = [queries[first : first + BATCH] for first in range(0, QUERIES - BATCH, BATCH)]
    started, answered = time.perf_counter(), 0
    while time.perf_counter() - started < 5:
        for batch in batches:
            base.search(batch, HITS)
            answered += len(batch)
    return answered / (time.perf_counter() - started)


async def _under_writes(
    client: AsyncClient, ask: Callable[[], Awaitable[object]], points: Descriptors, fingerprint: str
) -> tuple[list[float], str]:
    """The times of searches, one by one, while items are replaced at a steady pace; and what the index did meanwhile.

    The descriptors do not change, so that the next run finds the same million.
    """
    seen: set[str] = set()
    busy: list[float] = []
    end = time.perf_counter() + UPSERT_S

    async def write() -> None:
        number, pause_s = 0, 10 / UPSERTS_PER_S
        due = time.perf_counter()
        while time.perf_counter() < end:
            items = [
                ItemInput(f"p{n % ROWS}", Descriptor(points[n % ROWS], fingerprint), {"written": time.time()})
                for n in range(number, number + 10)
            ]
            await client.upsert(items)
            number, due = number + 10, due + pause_s
            await asyncio.sleep(max(0.0, due - time.perf_counter()))

    async def watch() -> None:
        while time.perf_counter() < end:
            seen.add((await state_of(client)).background.partition(" ")[0])
            await asyncio.sleep(0.5)

    async def search() -> None:
        while time.perf_counter() < end:
            busy.append(await timed(ask))

    await asyncio.gather(write(), watch(), search())
    return busy, ", ".join(sorted(word for word in seen if word)) or "no merge came"


if __name__ == "__main__":
    asyncio.run(main())
