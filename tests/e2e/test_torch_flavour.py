"""The PyTorch flavour in a real Triton, on a CPU. That its CUDA graphs answer the same stays unproven without a GPU."""

from pathlib import Path

from pspsearch.config import BundledTritonSettings
from pspsearch.model.contract import DESCRIPTOR
from pspsearch.triton.client import TritonClient
from pspsearch.triton.describer import TritonDescriber
from pspsearch.triton.process import BundledTriton
from pspsearch_build.export import export_onnx
from pspsearch_build.forms import torch_form
from pspsearch_build.network.onnx_facts import Precision
from pspsearch_build.publish import Flavour, Publication, publish
from tests.build.crops import cut_crops
from tests.build.small_networks import small_checkpoint

SAME_COSINE = 0.99999
"""Both compute in FP32, because FP16 takes a CPU ten times as long."""


async def test_published_network_answers_what_it_says_itself(tmp_path: Path) -> None:
    """It does alone and in batches that Triton makes and splits.

    It has its own Triton, because PyTorch is slow to load.
    """
    network = small_checkpoint().network
    onnx, repository = tmp_path / "network.onnx", tmp_path / "models"
    export_onnx(network, onnx, Precision.FP32)
    pixels = cut_crops(5, network.spec.input)
    expected = torch_form(network).run(pixels)[DESCRIPTOR]
    repository.mkdir()

    publish(Publication(onnx, repository, "torch", flavour=Flavour.TORCH))

    async with (
        BundledTriton(BundledTritonSettings(repository)) as triton,
        TritonClient(triton.address) as client,
        await TritonDescriber.open(client, "torch") as describer,
    ):
        assert describer.version.contract.precision == "fp32"
        for count in (1, 5):
            answers = (await describer.describe(pixels[:count])).descriptors
            assert (answers * expected[:count]).sum(axis=1).min() >= SAME_COSINE
