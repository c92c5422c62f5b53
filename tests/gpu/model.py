"""The PyTorch flavour in the bundled Triton, compared with the flavour for a CPU."""

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import torch

from pspsearch.domain import Pixels
from pspsearch.images.pixels import decode_pixels
from pspsearch.model.repository import default_repository
from pspsearch.triton.client import TritonClient
from pspsearch.triton.describer import TritonDescriber
from pspsearch_build.export import read_exported
from pspsearch_build.publish import Flavour, Publication, publish
from tests.bench.bench_search import load, timed
from tests.gpu.rows import Row, at_least, median_ms
from tests.pictures import encode, load_photo

MODEL, ON_CPU = "pspnet", "pspnet_cpu"
BATCHES = (1, 4, 16, 64)
PICTURES = 64
SAME_COSINE = 0.999


def make_repository(folder: Path) -> Path:
    """The shipped network in both flavours."""
    onnx = default_repository() / MODEL / "1" / "model.onnx"
    folder.mkdir()
    publish(Publication(onnx, folder, MODEL, flavour=Flavour.TORCH))
    publish(Publication(onnx, folder, ON_CPU))
    return folder


async def check(triton: str) -> AsyncIterator[Row]:
    """The GPU gives the CPU's descriptors; and how fast it is."""
    async with (
        TritonClient(triton) as client,
        await TritonDescriber.open(client, MODEL) as gpu,
        await TritonDescriber.open(client, ON_CPU) as cpu,
    ):
        pixels = _pictures(gpu)
        for size in (1, 7, PICTURES):
            cosines = (
                (await gpu.describe(pixels[:size])).descriptors * (await cpu.describe(pixels[:size])).descriptors
            ).sum(axis=1)
            yield at_least(f"least cosine to the CPU's descriptors, batch of {size}", float(cosines.min()), SAME_COSINE)
        for size in BATCHES:
            batch = pixels[:size]
            alone = float(np.median([await timed(lambda batch=batch: gpu.describe(batch)) for _ in range(50)][5:]))
            rate = size * await load(lambda batch=batch: gpu.describe(batch), 8)
            yield Row(f"Triton, requests of {size} images", f"{alone:.2f} ms, {rate:,.0f} images/s")
    yield _without_graphs(pixels)


def _pictures(describer: TritonDescriber) -> Pixels:
    """Different windows of two photographs."""
    shape = describer.version.contract.shape
    windows = [load_photo(640, 427, n % 2).crop((3 * n, n, 3 * n + 300, n + 300)) for n in range(PICTURES)]
    return np.stack([decode_pixels(encode(window), shape) for window in windows])


def _without_graphs(pixels: Pixels) -> Row:
    """How long one image takes if each kernel is started separately."""
    network = read_exported(default_repository() / MODEL / "1" / "model.onnx").cuda()
    network.trunk.to(memory_format=torch.channels_last)
    image = torch.from_numpy(pixels[:1]).cuda()

    def run() -> None:
        with torch.inference_mode():
            network(image)
        torch.cuda.synchronize()

    return Row("one image without graphs and without Triton", f"{median_ms(run, 50):.2f} ms")
