"""What an approximate index finds after restarts, deletions and insertions, compared with brute force."""

import asyncio
import shutil
import time
from pathlib import Path

import numpy as np

from pspsearch.catalog.folder import INDEXES
from pspsearch.client import AsyncClient, Descriptor, ItemInput
from pspsearch.domain import Descriptors, IndexKind
from tests.clustered import clustered_descriptors, true_rows
from tests.faults.place import DIMENSION, Place, fingerprint_of

COUNT = 10
CHANGE, LEAST, OFF_REBUILT = 0.001, 0.95, 0.01
"""By how much recall may change with a restart, its least value, and how far it may be below a new index's."""
KINDS = (IndexKind.HNSW, IndexKind.IVF)
HURRIED = ("-m", "tests.faults.hurried")
ITEMS, QUERIES = 6_000, 2_000
CLUSTERS = 600
"""With 200 clusters, the lists depend so much on chance that two orders of the same items differ by 0.02. With 1,000,
whose six items are near nothing else, a graph finds 0.94 where 0.98 was measured: queries made from its own rows are
easier for it than new ones.
"""


async def kept(place: Place, times: int) -> str:
    """Restarts, every other one after a kill, do not change recall; many changes leave it as good as a new index's."""
    data = place.new_folder("recall")
    points = clustered_descriptors(ITEMS, DIMENSION, 1, CLUSTERS).astype(np.float16).astype(np.float32)
    queries = clustered_descriptors(QUERIES, DIMENSION, 2, CLUSTERS)
    true = [set(rows.tolist()) for rows in true_rows(points.astype(np.float16), queries, COUNT)]
    told: list[str] = []
    with place.serve(data, program=HURRIED) as server:
        async with AsyncClient(server.address) as client:
            for kind in KINDS:
                await client.create_collection(kind.value, index_kind=kind)
                await _put(client, kind.value, points, range(ITEMS))
    seen = [await _measure(place, data, queries, true, killed=bool(number % 2)) for number in range(times + 1)]
    with place.serve(data, program=HURRIED) as server:
        async with AsyncClient(server.address) as client:
            gone = np.random.default_rng(3).permutation(ITEMS)[: ITEMS * 3 // 10].tolist()
            for kind in KINDS:
                for start in range(0, len(gone), 500):
                    await client.delete([str(number) for number in gone[start : start + 500]], collection=kind.value)
                await _put(client, kind.value, points, gone)
    changed = await _measure(place, data, queries, true)
    shutil.rmtree(data / INDEXES)
    rebuilt = await _measure(place, data, queries, true, program=HURRIED)
    for kind in KINDS:
        before = [found[kind] for found in seen]
        assert max(before) - min(before) <= CHANGE, (kind, before)
        assert changed[kind] >= LEAST, (kind, changed[kind])
        assert changed[kind] >= rebuilt[kind] - OFF_REBUILT, (kind, changed[kind], rebuilt[kind])
        told.append(f"{kind.value} {before[0]:.4f} to {before[-1]:.4f}, {changed[kind]:.4f}, new {rebuilt[kind]:.4f}")
    return f"{times} restarts, then 30 % deleted and put in again: recall {'; '.join(told)}"


async def _put(client: AsyncClient, collection: str, points: Descriptors, numbers: range | list[int]) -> None:
    fingerprint = await fingerprint_of(client)
    items = (ItemInput(str(number), Descriptor(points[number], fingerprint)) for number in numbers)
    async for acknowledgement in client.ingest(items, collection=collection):
        assert acknowledgement.error is None
    await _settle(client, collection)


async def _settle(client: AsyncClient, collection: str) -> None:
    """Waits until nothing is being built, and hardly anything waits to be."""
    deadline = time.perf_counter() + 120
    quiet = 0
    while quiet < 5:
        state = (await client.get_collection(collection)).state
        quiet = quiet + 1 if not state.background and state.fresh_count < ITEMS / 10 else 0
        assert time.perf_counter() < deadline, state
        await asyncio.sleep(0.05)


async def _measure(
    place: Place,
    data: Path,
    queries: Descriptors,
    true: list[set[int]],
    *,
    killed: bool = False,
    program: tuple[str, ...] = ("-m", "pspsearch"),
) -> dict[IndexKind, float]:
    """The recall of each kind of index, in its own server."""
    with place.serve(data, program=program) as server:
        async with AsyncClient(server.address) as client:
            found: dict[IndexKind, float] = {}
            fingerprint = await fingerprint_of(client)
            for kind in KINDS:
                await _settle(client, kind.value)
                state = (await client.get_collection(kind.value)).state
                assert state.index.lower().startswith(kind.value), state.index
                shares: list[float] = []
                for start in range(0, len(queries), 100):
                    some = [Descriptor(query, fingerprint) for query in queries[start : start + 100]]
                    answer = await client.search_batch(some, collection=kind.value, limit=COUNT)
                    for wanted, hits in zip(true[start : start + 100], answer.results, strict=True):
                        assert not isinstance(hits, Exception), hits
                        shares.append(len(wanted & {int(hit.id) for hit in hits}) / COUNT)
                found[kind] = float(np.mean(shares))
            if killed:
                server.process.kill()
    return found
