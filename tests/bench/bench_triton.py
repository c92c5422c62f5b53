"""The served model against the bare runtime: the same file, precision, cores and run."""

import asyncio
import statistics
import time
from collections.abc import Callable

import numpy as np
import openvino as ov
from rich.console import Console
from rich.table import Table

from pspsearch.config import BundledTritonSettings
from pspsearch.domain import Pixels
from pspsearch.repository import default_repository
from pspsearch.triton.client import TritonClient
from pspsearch.triton.describer import TritonDescriber
from pspsearch.triton.process import BundledTriton
from tests.bench.perf_analyzer import measure

MODEL = "pspnet"
ROUNDS, CALLS = 12, 50
CONCURRENCIES = (4, 8, 16, 32)
SIDE_PX = 224


class BareRuntime:
    """What `model.py` does inside Triton, without Triton."""

    def __init__(self) -> None:
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "bf16"}
        path = default_repository() / MODEL / "1" / "model.onnx"
        self._inference = ov.Core().compile_model(path, "CPU", options).create_infer_request()

    def infer(self, pixels: Pixels) -> None:
        """One batch."""
        self._inference.infer([pixels], share_inputs=True)

    def best_images_per_s(self) -> float:
        """Over the batch sizes that Triton may form; the median of three seconds each."""
        return max(self._images_per_s(batch) for batch in (1, 2, 4, 8, 16, 32))

    def _images_per_s(self, batch: int) -> float:
        pixels = random_pixels(batch)
        seconds: list[float] = []
        while sum(seconds) < 3:
            seconds.append(_timed(lambda: self.infer(pixels)))
        return batch / statistics.median(seconds)


def random_pixels(count: int) -> Pixels:
    """Noise: the network's work does not depend on the picture."""
    return np.random.default_rng(0).integers(0, 256, (count, SIDE_PX, SIDE_PX, 3)).astype(np.uint8)


async def main() -> None:
    """Prints the two ratios that matter: latency alone, throughput under load."""
    bare = BareRuntime()
    table = Table(title=f"{MODEL}: Triton over the bare runtime")
    for heading in ("figure", "bare", "Triton", "ratio", "target"):
        table.add_column(heading, justify="right")
    async with BundledTriton(BundledTritonSettings(default_repository())) as triton:
        triton.require(MODEL)
        async with (
            TritonClient(triton.address) as client,
            await TritonDescriber.open(client, MODEL, shared_memory=True) as describer,
        ):
            bare_ms, served_ms = await _latencies_ms(bare, describer)
        for percentile, target in ((50, "<= 1.15"), (99, "")):
            bare_p, served_p = np.percentile(bare_ms, percentile), np.percentile(served_ms, percentile)
            row = (f"{bare_p:.2f}", f"{served_p:.2f}", f"{served_p / bare_p:.2f}", target)
            table.add_row(f"p{percentile} at concurrency 1, ms", *row)
        before = await asyncio.to_thread(bare.best_images_per_s)
        loads = [
            await asyncio.to_thread(measure, triton.address, MODEL, concurrency, shared_memory=True)
            for concurrency in CONCURRENCIES
        ]
        after = await asyncio.to_thread(bare.best_images_per_s)
    best = max((load.images_per_s for load in loads if load is not None), default=float("nan"))
    bare_best = (before + after) / 2  # the machine's speed drifts
    table.add_row("best throughput, images/s", f"{bare_best:.0f}", f"{best:.0f}", f"{best / bare_best:.2f}", ">= 0.95")
    Console().print(table)


async def _latencies_ms(bare: BareRuntime, describer: TritonDescriber) -> tuple[list[float], list[float]]:
    """Each call, in rounds taken in turn, so that both meet the same machine."""
    pixels = random_pixels(1)
    bare_ms: list[float] = []
    served_ms: list[float] = []
    for _ in range(ROUNDS):
        bare_ms += [1000 * _timed(lambda: bare.infer(pixels)) for _ in range(CALLS)]
        for _ in range(CALLS):
            started = time.perf_counter()
            await describer.describe(pixels)
            served_ms.append(1000 * (time.perf_counter() - started))
    return bare_ms, served_ms


def _timed(act: Callable[[], None]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


if __name__ == "__main__":
    asyncio.run(main())
