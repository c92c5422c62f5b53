"""The PyTorch flavour of a model version, for a GPU without TensorRT: the ONNX file's network as CUDA graphs.

A network of this size is so fast on a GPU that starting its kernels one by one takes longer than running them. A graph
starts all of them at once, but has one batch size. So there is a graph for each power of two, and a batch goes into the
smallest that holds it. On a machine without a GPU the same network runs without graphs, slowly.

Triton's Python must have `pspsearch[build]`, which turns the file's weights into a network.
"""

from __future__ import annotations  # Triton completes its module only after it imports this one

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import triton_python_backend_utils as pb_utils  # pyright: ignore[reportMissingModuleSource] - Triton brings it
from numpy.typing import NDArray
from torch import Tensor

from pspsearch.model.checksum import checksum
from pspsearch.model.contract import CHECKSUM, DESCRIPTOR
from pspsearch_build.errors import BuildError
from pspsearch_build.export import read_exported
from pspsearch_build.network.descriptor_network import DescriptorNetwork

WARM_UPS = 3
"""How often the network runs before it is recorded: libraries choose their kernels in the first runs."""


class Recording:
    """The network recorded for one batch size."""

    def __init__(self, network: DescriptorNetwork, size: int, device: torch.device) -> None:
        shape = network.spec.input
        self.size = size
        self._pixels = torch.zeros(size, shape.height_px, shape.width_px, 3, dtype=torch.uint8, device=device)
        self._graph = torch.cuda.CUDAGraph()
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                network(self._pixels)
        torch.cuda.current_stream(device).wait_stream(side)
        with torch.cuda.graph(self._graph):
            self._outputs = network(self._pixels)

    def run(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Runs at most `size` images; what the rest of the batch held before does not matter."""
        self._pixels[: len(pixels)].copy_(pixels, non_blocking=True)
        self._graph.replay()
        return tuple(output[: len(pixels)] for output in self._outputs)


class TritonPythonModel:
    """One instance of the model; Triton calls `execute` with whatever its batcher gathered."""

    def initialize(self, args: dict[str, str]) -> None:
        """Records the network for every batch size that `config.pbtxt` allows."""
        config = json.loads(args["model_config"])
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        try:
            self.network = read_exported(path)
        except BuildError as error:
            raise pb_utils.TritonModelException(str(error)) from error
        self.names = self.network.spec.outputs
        most, shape = config["max_batch_size"], self.network.spec.input
        self.recordings: list[Recording] = []
        self.staged = torch.empty(most, shape.height_px, shape.width_px, 3, dtype=torch.uint8)
        if torch.cuda.is_available():
            device = torch.device("cuda", int(args["model_instance_device_id"]))
            self.staged = self.staged.pin_memory()
            self.network.to(device).trunk.to(memory_format=torch.channels_last)
            sizes = sorted({most, *(1 << power for power in range(most.bit_length()))})
            with torch.inference_mode(), torch.cuda.device(device):
                self.recordings = [Recording(self.network, size, device) for size in sizes]

    def execute(self, requests: list[pb_utils.InferenceRequest]) -> list[pb_utils.InferenceResponse]:
        """Runs one inference for all requests, and gives each its own rows."""
        try:
            batches = [pb_utils.get_input_tensor_by_name(request, "pixels").as_numpy() for request in requests]
            pixels = self.stage(batches)
        except (AttributeError, ValueError) as error:  # Triton had checked them, so they were overwritten since
            raise pb_utils.TritonModelException("Triton gave up this process, and the requests are gone") from error
        results = self.infer(pixels)
        responses: list[pb_utils.InferenceResponse] = []
        first = 0
        for request, batch in zip(requests, batches, strict=True):
            rows = slice(first, first + len(batch))
            first = rows.stop
            tensors = [pb_utils.Tensor(name, results[name][rows]) for name in request.requested_output_names()]
            responses.append(pb_utils.InferenceResponse(tensors))
        return responses

    def stage(self, batches: list[NDArray[np.uint8]]) -> Tensor:
        """Copies all images into one batch, in memory that a GPU reads quickly."""
        pixels = self.staged[: sum(map(len, batches))]
        np.concatenate(batches, out=cast("NDArray[np.uint8]", pixels.numpy()))
        return pixels

    def infer(self, pixels: Tensor) -> dict[str, NDArray[Any]]:
        """Each output by its name, with a row per image. The checksum lets a caller check that the rows are its own."""
        with torch.inference_mode():
            run = next((one.run for one in self.recordings if one.size >= len(pixels)), self.network)
            outputs = run(pixels)
            results: list[NDArray[np.float32]] = [output.cpu().numpy() for output in outputs]  # waits for the GPU
        found = dict(zip(self.names, results, strict=True))
        return {**found, CHECKSUM: checksum(cast("NDArray[np.uint8]", pixels.numpy()), found[DESCRIPTOR])}
