"""A second version arrives in the repository of a running Triton."""

import asyncio
from pathlib import Path

import numpy as np
import onnxruntime as ort

from pspsearch.domain import Descriptors, Pixels
from pspsearch.triton.client import TritonClient
from pspsearch.triton.describer import TritonDescriber
from pspsearch_build.publish import Publication, publish
from tests.build.colour_network import write_colour_network

BF16_COSINE = 0.999
"""The bundled Triton computes in bf16, the reference in FP32."""


def reference(onnx: Path, pixels: Pixels) -> Descriptors:
    """Returns what the network itself answers."""
    session = ort.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["descriptor"], {"pixels": pixels})[0], np.float32)


async def test_published_version_is_loaded_and_both_answer(
    client: TritonClient, repository: Path, tmp_path: Path
) -> None:
    """Triton loads the new folder while calls to the old version run: none fails, and each gets its own answer."""
    networks = [write_colour_network(tmp_path / f"{seed}.onnx", seed=seed) for seed in (1, 2)]
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.uint8)
    expected = [reference(network, pixels) for network in networks]
    publish(Publication(networks[0], repository, "colour"))
    await client.load("colour")

    async with await TritonDescriber.open(client, "colour") as first:
        loaded = asyncio.Event()

        async def ask() -> int:
            answers = 0
            while not loaded.is_set():
                assert ((await first.describe(pixels)).descriptors * expected[0]).sum(axis=1).min() >= BF16_COSINE
                answers += 1
            return answers

        callers = [asyncio.create_task(ask()) for _ in range(4)]
        await asyncio.to_thread(publish, Publication(networks[1], repository, "colour"))
        await client.load("colour")
        loaded.set()
        assert min(await asyncio.gather(*callers)) > 0

        async with await TritonDescriber.open(client, "colour") as second:
            assert (first.version.version, second.version.version) == (1, 2)
            assert first.version.contract.fingerprint != second.version.contract.fingerprint
            assert ((await first.describe(pixels)).descriptors * expected[0]).sum(axis=1).min() >= BF16_COSINE
            assert ((await second.describe(pixels)).descriptors * expected[1]).sum(axis=1).min() >= BF16_COSINE
            assert (expected[0] * expected[1]).sum(axis=1).max() < 0.9
