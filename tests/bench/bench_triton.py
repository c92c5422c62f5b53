"""The served model against the bare runtime: the same file, precision, cores and run."""

import asyncio
import os
import statistics
import time
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.table import Table

from pspsearch.config import BundledTritonSettings
from pspsearch.domain import Pixels
from pspsearch.model.repository import default_repository
from pspsearch.openvino import ov
from pspsearch.triton.client import TritonClient
from pspsearch.triton.describer import TritonDescriber
from pspsearch.triton.process import BundledTriton
from tests.bench.perf_analyzer import measure

MODEL = "pspnet"
ROUNDS, TURNS, CALLS = 3, 6, 50
CONCURRENCIES = (4, 8, 16, 32)
SIDE_PX = 256


class BareRuntime:
    """The network as `model.py` runs a lone image and pairs, or at any batch size, but without Triton."""

    def __init__(self) -> None:
        core, precision = ov.Core(), {"INFERENCE_PRECISION_HINT": "bf16"}
        model = core.read_model(default_repository() / MODEL / "1" / "model.onnx")
        alone = {"PERFORMANCE_HINT": "LATENCY", **precision}
        self._inference = core.compile_model(model, "CPU", alone).create_infer_request()
        streams = len(os.sched_getaffinity(0))
        paired = {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": str(streams), **precision}
        model.reshape([2, SIDE_PX, SIDE_PX, 3])
        self._pairs = ov.AsyncInferQueue(core.compile_model(model, "CPU", paired), streams)

    def infer(self, pixels: Pixels) -> None:
        """Runs one batch."""
        self._inference.infer([pixels], share_inputs=True)

    def best_images_per_s(self) -> float:
        """The best rate over pairs and the batch sizes."""
        return max(self._paired_images_per_s(), *(self._images_per_s(batch) for batch in (1, 2, 4, 8, 16, 32)))

    def _paired_images_per_s(self) -> float:
        """The rate of pairs, with one stream per core."""
        pixels, pairs = random_pixels(2), 300
        started = time.perf_counter()
        for _ in range(pairs):
            self._pairs.start_async([pixels], share_inputs=True)
        self._pairs.wait_all()
        return 2 * pairs / (time.perf_counter() - started)

    def _images_per_s(self, batch: int) -> float:
        """The median rate over two seconds."""
        pixels = random_pixels(batch)
        seconds: list[float] = []
        while sum(seconds) < 2:
            seconds.append(_timed(lambda: self.infer(pixels)))
        return batch / statistics.median(seconds)


def random_pixels(count: int) -> Pixels:
    """Noise, because the network's work does not depend on the picture."""
    return np.random.default_rng(0).integers(0, 256, (count, SIDE_PX, SIDE_PX, 3)).astype(np.uint8)


async def main() -> None:
    """Prints the latency of a lone image and the throughput under load, each as a ratio to the bare runtime.

    One network's speed varied by a fifth from start to start, so both sides start anew each round.
    """
    bare_ms: list[float] = []
    served_ms: list[float] = []
    analyzer_ms: list[float] = []
    bare_best: list[float] = []
    served_best: list[float] = []
    for _ in range(ROUNDS):
        bare = BareRuntime()
        async with BundledTriton(BundledTritonSettings(default_repository())) as triton:
            triton.require(MODEL)
            await _take_turns(bare, triton.address, bare_ms, served_ms)
            alone = await asyncio.to_thread(measure, triton.address, MODEL, 1, shared_memory=True)
            analyzer_ms += [alone.p50_ms] if alone else []
            bare_best.append(await asyncio.to_thread(bare.best_images_per_s))
            loads = [
                await asyncio.to_thread(measure, triton.address, MODEL, concurrency, shared_memory=True)
                for concurrency in CONCURRENCIES
            ]
            served_best.append(max((load.per_s for load in loads if load), default=float("nan")))
    table = Table(title=f"{MODEL}: Triton over the bare runtime, {ROUNDS} starts of each")
    for heading in ("figure", "bare", "Triton", "ratio", "target"):
        table.add_column(heading, justify="right")
    p50, p99 = (float(np.percentile(bare_ms, percentile)) for percentile in (50, 99))
    rows = [
        ("p50 at concurrency 1, ms", p50, float(np.percentile(served_ms, 50)), "<= 1.15"),
        ("the same, asked by perf_analyzer", p50, statistics.median(analyzer_ms or [float("nan")]), "<= 1.15"),
        ("p99 at concurrency 1, ms", p99, float(np.percentile(served_ms, 99)), ""),
        ("best throughput, images/s", statistics.median(bare_best), statistics.median(served_best), ">= 0.95"),
    ]
    for name, of_bare, of_triton, target in rows:
        table.add_row(name, f"{of_bare:.2f}", f"{of_triton:.2f}", f"{of_triton / of_bare:.2f}", target)
    Console().print(table)


async def _take_turns(bare: BareRuntime, address: str, bare_ms: list[float], served_ms: list[float]) -> None:
    """Adds single calls of either kind, a few of each in turn, so that both meet the same machine."""
    pixels = random_pixels(1)
    async with (
        TritonClient(address) as client,
        await TritonDescriber.open(client, MODEL, shared_memory=True) as describer,
    ):
        for _ in range(TURNS):
            bare_ms += [1000 * _timed(lambda: bare.infer(pixels)) for _ in range(CALLS)]
            for _ in range(CALLS):
                started = time.perf_counter()
                await describer.describe(pixels)
                served_ms.append(1000 * (time.perf_counter() - started))


def _timed(act: Callable[[], None]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


if __name__ == "__main__":
    asyncio.run(main())
