"""How a rollout affects live searches, and how much of the model it gets meanwhile.

The model, the server and this client share the machine's cores.
"""

import asyncio
import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from pspsearch.client import AsyncClient, ItemInput, Rollout
from pspsearch.config import BundledTritonSettings
from pspsearch.domain import RolloutStage
from pspsearch.errors import PspsearchError
from pspsearch.model.repository import default_repository
from pspsearch.triton.process import BundledTriton
from pspsearch_build.publish import Publication, publish
from tests.bench.bench_search import by_chance, load
from tests.pictures import encode, load_photo
from tests.servers.search_server import serve

ITEMS = 1500
SHARE = 0.25
QUIET_S = 15.0
FLIPS = 10
FLAGS = ("--gate-spread", "1.1", "--gate-overlap", "0", "--gate-slowdown", "100", "--rollout-watch-s", "0")
"""One picture under many ids, because only the time matters."""


@dataclass
class Load:
    """Searches at random moments, so many a second, whether or not the previous one has its answer."""

    client: AsyncClient
    image: bytes
    per_second: float
    times: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    """When each search came, and how many milliseconds it took."""
    failed: int = 0

    async def run(self, until: asyncio.Event) -> None:
        """Searches until the event, and returns when all have answers."""
        self.times += await by_chance(self._ask, self.per_second, until)

    async def _ask(self) -> None:
        try:
            await self.client.search(self.image)
        except PspsearchError:
            self.failed += 1

    @property
    def p99_ms(self) -> float:
        """The p99 of all searches."""
        return float(np.percentile([took for _, took in self.times], 99))


async def main() -> None:
    """Prints p99 during a rollout over p99 without, the rollout's rate, and the longest search around a flip."""
    for is_embedded in (False, True):
        await _measure_with(is_embedded=is_embedded)


async def _measure_with(*, is_embedded: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(shutil.copytree(default_repository(), Path(folder, "model_repository")))
        network = Path(folder, "new.onnx")
        command = [
            str(Path(sys.executable).with_name("pspsearch-build")),
            "export",
            "--untrained",
            "--seed",
            "2",
            "--output",
        ]
        subprocess.run([*command, str(network)], check=True, capture_output=True)
        async with contextlib.AsyncExitStack() as stack:
            triton, flags = "", ["--runtime", "embedded", "--repository", str(repository)]
            if not is_embedded:
                bundled = await stack.enter_async_context(BundledTriton(BundledTritonSettings(repository)))
                triton, flags = bundled.address, []
            server = stack.enter_context(serve(Path(folder, "data"), triton, *flags, *FLAGS))
            client = await stack.enter_async_context(AsyncClient(server.address))
            publication = Publication(network, repository, "pspnet")
            await _measure(client, publication, "embedded" if is_embedded else "through Triton")


async def _measure(client: AsyncClient, publication: Publication, runtime: str) -> None:
    image = encode(load_photo(500, 375))
    items = [ItemInput(f"i{number}", image + number.to_bytes(4)) for number in range(ITEMS)]
    async for given in client.ingest(items):
        assert given.error is None, given.error
    await asyncio.to_thread(publish, publication)
    alone = await _roll_out(client, 1.0)
    await client.abort_rollout()
    half = await load(lambda: client.search(image), 8) / 2

    quiet = Load(client, image, half)
    stop = asyncio.Event()
    running = asyncio.create_task(quiet.run(stop))
    await asyncio.sleep(QUIET_S)
    stop.set()
    await running

    beside = Load(client, image, half)
    stop = asyncio.Event()
    running = asyncio.create_task(beside.run(stop))
    rollout = await _roll_out(client, SHARE)
    stop.set()
    await running

    flipping = Load(client, image, half)
    stop, moments = asyncio.Event(), list[float]()
    running = asyncio.create_task(flipping.run(stop))
    await asyncio.sleep(1)
    await client.promote_rollout()
    for _ in range(FLIPS):
        moments.append(time.perf_counter())
        await client.rollback()
        await asyncio.sleep(1)
    stop.set()
    await running
    around = [took for began, took in flipping.times if any(-0.2 < began - moment < 0.2 for moment in moments)]

    beside_what = f"beside {half:.0f} searches/s by image"
    table = Table(title=f"{runtime}: a rollout of {ITEMS:,} items, share {SHARE}, {beside_what}")
    for heading in ("figure", "quiet", "beside", "ratio", "target"):
        table.add_column(heading, justify="right")
    ratio = beside.p99_ms / quiet.p99_ms
    table.add_row("p99 of searches, ms", f"{quiet.p99_ms:.1f}", f"{beside.p99_ms:.1f}", f"{ratio:.2f}", "<= 1.3")
    rate = rollout.per_second / (SHARE * alone.per_second)
    table.add_row(
        "described, items/s, over its share",
        f"{alone.per_second:.0f}",
        f"{rollout.per_second:.0f}",
        f"{rate:.2f}",
        ">= 0.8",
    )
    longest = max(around) - quiet.p99_ms
    table.add_row(f"longest search at {FLIPS} flips, over the quiet p99, ms", "", f"{longest:+.1f}", "", "<= 50")
    table.add_row("searches that failed", str(quiet.failed), str(beside.failed + flipping.failed), "", "0")
    Console().print(table)


async def _roll_out(client: AsyncClient, share: float) -> Rollout:
    """Rolls out, and returns when it is ready."""
    await client.start_rollout(2, share=share)
    async for moment in client.watch_rollout():
        if moment.stage is RolloutStage.READY:
            return moment
        assert moment.stage is not RolloutStage.FAILED, moment.reason
    raise AssertionError("the rollout ended")


if __name__ == "__main__":
    asyncio.run(main())
