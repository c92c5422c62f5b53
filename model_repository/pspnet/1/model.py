"""The CPU flavour of a model version: Triton's Python backend calls OpenVINO on the ONNX file beside this one.

Each core takes one image after the other, or pairs if there are enough for all cores: cores that work on one thing wait
for one another at each layer, most of all where the search server wants them, too; and a network of fixed size is not
prepared anew for each size of batch. Only an image that comes alone in a calm time uses every core. That answers it
sooner, but takes one and a half times the processor time.

There should be two instances, because Triton's batcher loses the wake-up of a request that comes while no instance is
free and then lets it lie for half a second; and while one computes, the other fetches pixels and hands out descriptors.

What an instance answers too late, Triton may take for the answer to another request. The output `checksum` therefore
tells from which pixels a descriptor was computed: whoever asked computes the same from its own and compares.
"""

from __future__ import annotations  # Triton completes its module after this one is imported

import fcntl
import json
import os
import sys
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # pyright: ignore[reportMissingModuleSource] - Triton brings it
from numpy.typing import NDArray

sys.modules["openvino_telemetry"] = None  # pyright: ignore[reportArgumentType] - or OpenVINO forks and calls Google

import openvino as ov  # noqa: E402 - only after the line above

Results = dict[str, NDArray[np.float32]]
"""Each output by its name, a row for each image."""

CHECKSUM = "checksum"
"""The output that the network has not."""

PAIR = 2
"""Images in one inference of a core under load: more are hardly faster."""

CALM_S = 0.2
"""For so long an instance must have met no second image before a lone one uses every core."""


class TritonPythonModel:
    """One instance of the model; Triton calls `execute` with whatever its batcher gathered."""

    def initialize(self, args: dict[str, str]) -> None:
        """Compiles the network for each use, once it is known to be the one that `config.pbtxt` describes."""
        config = json.loads(args["model_config"])
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        core = ov.Core()
        try:
            model = core.read_model(path)
        except RuntimeError as error:
            raise pb_utils.TritonModelException(f"{path} cannot be read as ONNX: {error}") from error
        check_shapes(model, config, path)
        precision = config["parameters"]["inference_precision"]["string_value"]
        if precision.upper() not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            pb_utils.Logger.log_warn(f"this processor has no {precision}: {path} runs in f32")
            precision = "f32"
        self.cores = len(os.sched_getaffinity(0))
        alone = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
        together = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "INFERENCE_PRECISION_HINT": precision,
            "NUM_STREAMS": str(self.cores),
            "ENABLE_CPU_PINNING": False,  # both instances would choose the same cores
        }
        model.reshape([1, *model.input(0).partial_shape[1:]])
        self.alone = core.compile_model(model, "CPU", alone).create_infer_request()
        self.singles = ov.AsyncInferQueue(core.compile_model(model, "CPU", together), self.cores)
        model.reshape([PAIR, *model.input(0).partial_shape[1:]])
        self.pairs = ov.AsyncInferQueue(core.compile_model(model, "CPU", together), self.cores)
        for queue in (self.singles, self.pairs):
            queue.set_callback(keep)
        names = [output["name"] for output in config["output"] if output["name"] != CHECKSUM]
        self.shapes = {name: list(model.output(name).shape)[1:] for name in names}
        self.busy = path.open("rb")
        self.crowded_s = 0.0

    def execute(self, requests: list[pb_utils.InferenceRequest]) -> list[pb_utils.InferenceResponse]:
        """One inference for all requests; each gets its own rows back."""
        try:
            batches = [pb_utils.get_input_tensor_by_name(request, "pixels").as_numpy() for request in requests]
            pixels = np.concatenate(batches)  # always a copy: Triton may write over its own while this computes
        except (AttributeError, ValueError) as error:  # Triton had checked them: since then they were overwritten
            raise pb_utils.TritonModelException("Triton gave up this process, and the requests are gone") from error
        found = self.infer(pixels)
        results = {**found, CHECKSUM: checksum(pixels, found["descriptor"])}
        responses: list[pb_utils.InferenceResponse] = []
        first = 0
        for request, batch in zip(requests, batches, strict=True):
            rows = slice(first, first + len(batch))
            first = rows.stop
            tensors = [pb_utils.Tensor(name, results[name][rows]) for name in request.requested_output_names()]
            responses.append(pb_utils.InferenceResponse(tensors))
        return responses

    def infer(self, pixels: NDArray[np.uint8]) -> Results:
        """Whichever suits the times. A lock on the network's file tells the other instances that this one is busy."""
        now = time.monotonic()
        try:
            fcntl.flock(self.busy, fcntl.LOCK_EX | fcntl.LOCK_NB)
            meets_others = False
        except BlockingIOError:
            meets_others = True
        fcntl.flock(self.busy, fcntl.LOCK_SH)  # nobody keeps the exclusive lock, so this does not wait
        try:
            if meets_others or len(pixels) > 1:
                self.crowded_s = now
            return self.infer_alone(pixels) if now - self.crowded_s > CALM_S else self.infer_together(pixels)
        finally:
            fcntl.flock(self.busy, fcntl.LOCK_UN)

    def infer_alone(self, pixels: NDArray[np.uint8]) -> Results:
        """One image on all cores, as fast as may be."""
        self.alone.infer([pixels], share_inputs=True)
        return {name: self.alone.get_tensor(name).data for name in self.shapes}

    def infer_together(self, pixels: NDArray[np.uint8]) -> Results:
        """Each image or pair on one core."""
        results = {name: np.empty((len(pixels), *dims), np.float32) for name, dims in self.shapes.items()}
        paired = len(pixels) // PAIR * PAIR if len(pixels) >= PAIR * self.cores else 0
        for first in range(0, paired, PAIR):
            self.pairs.start_async([pixels[first : first + PAIR]], (results, first), share_inputs=True)
        for first in range(paired, len(pixels)):
            self.singles.start_async([pixels[first : first + 1]], (results, first), share_inputs=True)
        self.pairs.wait_all()
        self.singles.wait_all()
        return results


def keep(inference: ov.InferRequest, place: tuple[Results, int]) -> None:
    """Puts what an image or a pair became among the results, from a row on."""
    results, first = place
    for name, rows in results.items():
        computed = inference.get_tensor(name).data
        rows[first : first + len(computed)] = computed


def check_shapes(model: ov.Model, config: dict[str, Any], path: Path) -> None:
    """Triton holds requests against the config; this holds the config against the network."""
    for kind, ports in (("input", model.inputs), ("output", model.outputs)):
        shapes = {port.get_any_name(): port.get_partial_shape() for port in ports}
        shapes[CHECKSUM] = ov.PartialShape([-1, 1])
        for tensor in config[kind]:
            name, dims = tensor["name"], [int(size) for size in tensor["dims"]]
            if name not in shapes:
                raise pb_utils.TritonModelException(f"config.pbtxt has an {kind} {name}, and {path} has none")
            if not shapes[name].compatible(ov.PartialShape([-1, *dims])):
                raise pb_utils.TritonModelException(
                    f"config.pbtxt has {kind} {name} of {dims}, and {path} of {shapes[name]}"
                )


def checksum(pixels: NDArray[np.uint8], descriptors: NDArray[np.float32]) -> NDArray[np.uint64]:
    """One number for each image with its descriptor, in a column; published programs compute the same.

    It is the sum, modulo 2^64, of all their bytes as 64-bit words, each times a weight that looks random.
    """
    image, answer = _words(pixels), _words(descriptors)
    weights = _weights(image.shape[1] + answer.shape[1])
    return image @ weights[: image.shape[1]] + answer @ weights[image.shape[1] :]


def _words(rows: NDArray[Any]) -> NDArray[np.uint64]:
    """The bytes of each row, filled up with zeros."""
    numbers = np.ascontiguousarray(rows).reshape(len(rows), -1).view(np.uint8)
    if spare := -numbers.shape[1] % 8:
        numbers = np.pad(numbers, ((0, 0), (0, spare)))
    return numbers.view(np.uint64)


@lru_cache
def _weights(count: int) -> NDArray[np.uint64]:
    """Odd ones: no word can change alone without the sum's changing."""
    numbers = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    numbers = (numbers ^ (numbers >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return (numbers | np.uint64(1))[:, None]
