"""`make loadtest`: perf_analyzer on the served model, pixels in shared memory or in the request, and on searches."""

import asyncio
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pspsearch.client import Client
from pspsearch.config import BundledTritonSettings
from pspsearch.repository import default_repository
from pspsearch.triton.process import BundledTriton
from tests.bench.perf_analyzer import Load, measure, write_images
from tests.search_server import serve

MODEL = "pspnet"
CONCURRENCIES = (1, 2, 4, 8, 16)
COLLECTION = "sample"
SEARCHES = (1, 8, 32)


async def main() -> None:
    """Prints one row per concurrency and way."""
    async with BundledTriton(BundledTritonSettings(default_repository())) as triton:
        triton.require(MODEL)
        tables = [await _load_model(triton.address), await asyncio.to_thread(_load_searches, triton.address)]
    for table in tables:
        Console().print(table)


async def _load_model(address: str) -> Table:
    table = Table(title=f"{MODEL}: one image per request, closed loop")
    for heading in ("pixels", "concurrency", "images/s", "p50 ms", "p95 ms", "p99 ms"):
        table.add_column(heading, justify="right")
    for shared_memory in (True, False):
        way = "shared memory" if shared_memory else "in the request"
        for concurrency in CONCURRENCIES:
            load = await asyncio.to_thread(measure, address, MODEL, concurrency, shared_memory=shared_memory)
            table.add_row(way, str(concurrency), *figures(load))
    return table


def _load_searches(triton: str) -> Table:
    """The whole path: JPEG in, ten hits out, with the sample gallery's own pictures as queries."""
    with tempfile.TemporaryDirectory() as folder, serve(Path(folder, "data"), triton, "--sample") as server:
        with Client(server.address) as client:
            items = client.list(collection=COLLECTION)
            images = [client.get_image(item.id, collection=COLLECTION) for item in items]
        inputs = Path(folder, "inputs.json")
        write_images(inputs, "IMAGE", images)
        table = Table(title=f"search.{COLLECTION}: {len(images)} pictures, one a request, 10 hits, closed loop")
        for heading in ("concurrency", "searches/s", "p50 ms", "p95 ms", "p99 ms"):
            table.add_column(heading, justify="right")
        for concurrency in SEARCHES:
            load = measure(server.address, f"search.{COLLECTION}", concurrency, inputs=inputs)
            table.add_row(str(concurrency), *figures(load))
    return table


def figures(load: Load | None) -> list[str]:
    """The cells of one row."""
    if load is None:
        return ["unstable", "", "", ""]
    return [f"{load.images_per_s:.0f}", *(f"{ms:.2f}" for ms in (load.p50_ms, load.p95_ms, load.p99_ms))]


if __name__ == "__main__":
    asyncio.run(main())
