"""The whole path on the GPU: the server with its index, and Triton with the network."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np

from pspsearch.client import AsyncClient, Descriptor, ItemInput
from pspsearch.domain import Descriptors
from tests.bench.bench_search import fill, load, state_of, timed
from tests.bench.points import clustered
from tests.gpu.rows import Row, at_least, holds
from tests.pictures import encode, load_photo
from tests.servers.search_server import serve

ITEMS, DIMENSION, SEARCHES = 100_000, 256, 1_000
CONCURRENCIES = (1, 8, 32, 128)


async def check(triton: str, data: Path) -> AsyncIterator[Row]:
    """Searches by image; and searches by descriptor a thousand times while others write."""
    points = clustered(ITEMS, DIMENSION, seed=1)
    image = encode(load_photo(500, 375))
    with serve(data, triton, "--device", "gpu") as server:
        async with AsyncClient(server.address) as client:
            await fill(client, points)
            while (await state_of(client)).background:
                await asyncio.sleep(0.5)
            state = await state_of(client)
            yield holds("the server's index is on the GPU", passed="GPU" in state.index)
            alone = [await timed(lambda: client.search(image)) for _ in range(200)][20:]
            p50, p99 = np.percentile(alone, (50, 99))
            yield Row(f"search by image over {ITEMS:,}, one at a time", f"{p50:.2f} ms, p99 {p99:.2f} ms")
            for concurrency in CONCURRENCIES:
                rate = await load(lambda: client.search(image), concurrency)
                yield Row(f"searches by image, {concurrency} under way", f"{rate:,.0f}/s")
            right = await _search_while_writing(client, points[:SEARCHES], state.origin.fingerprint)
            yield at_least(f"{SEARCHES:,} items found as nearest to themselves during writes", right / SEARCHES, 0.99)


async def _search_while_writing(client: AsyncClient, points: Descriptors, fingerprint: str) -> int:
    """How many of the descriptors find their own item first, while other items come and go."""
    over = asyncio.Event()

    async def write() -> None:
        others = clustered(SEARCHES, DIMENSION, seed=3)
        while not over.is_set():
            items = [ItemInput(f"other{n}", Descriptor(point, fingerprint)) for n, point in enumerate(others)]
            await client.upsert(items[:200])
            await client.delete([item.id for item in items[:100]])

    writing = asyncio.create_task(write())
    right = 0
    for number, point in enumerate(points):
        hits = (await client.search(Descriptor(point, fingerprint), limit=1)).hits
        right += hits[0].id == f"p{number}"
    over.set()
    await writing
    return right
