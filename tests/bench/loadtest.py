"""`make loadtest`: the served model under perf_analyzer, with pixels in shared memory and in the requests."""

import asyncio

from rich.console import Console
from rich.table import Table

from pspsearch.config import BundledTritonSettings
from pspsearch.repository import default_repository
from pspsearch.triton.process import BundledTriton
from tests.bench.perf_analyzer import Load, measure

MODEL = "pspnet"
CONCURRENCIES = (1, 2, 4, 8, 16)


async def main() -> None:
    """Prints one row per concurrency and way."""
    table = Table(title=f"{MODEL}: one image per request, closed loop")
    for heading in ("pixels", "concurrency", "images/s", "p50 ms", "p95 ms", "p99 ms"):
        table.add_column(heading, justify="right")
    async with BundledTriton(BundledTritonSettings(default_repository())) as triton:
        triton.require(MODEL)
        for shared_memory in (True, False):
            way = "shared memory" if shared_memory else "in the request"
            for concurrency in CONCURRENCIES:
                load = await asyncio.to_thread(measure, triton.address, MODEL, concurrency, shared_memory=shared_memory)
                table.add_row(way, str(concurrency), *figures(load))
    Console().print(table)


def figures(load: Load | None) -> list[str]:
    """The cells of one row."""
    if load is None:
        return ["unstable", "", "", ""]
    return [f"{load.images_per_s:.0f}", *(f"{ms:.2f}" for ms in (load.p50_ms, load.p95_ms, load.p99_ms))]


if __name__ == "__main__":
    asyncio.run(main())
