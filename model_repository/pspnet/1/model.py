"""The CPU flavour of a model version: Triton's Python backend calls OpenVINO on the ONNX file beside this one.

An inference uses every core, so the instances of a model take turns: while one computes, the others fetch pixels and
hand out descriptors. There should be two, because Triton's batcher loses the wake-up of a request that comes while no
instance is free and then lets it lie for half a second.
"""

from __future__ import annotations  # Triton completes its module after this one is imported

import fcntl
import json
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import triton_python_backend_utils as pb_utils  # pyright: ignore[reportMissingModuleSource] - Triton brings it


class TritonPythonModel:
    """One instance of the model; Triton calls `execute` with whatever its batcher gathered."""

    def initialize(self, args: dict[str, str]) -> None:
        """Compiles the network, once it is known to be the one that `config.pbtxt` describes."""
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
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
        self.inference = core.compile_model(model, "CPU", options).create_infer_request()
        self.turn = path.open("rb")
        self.output_names = [output["name"] for output in config["output"]]

    def execute(self, requests: list[pb_utils.InferenceRequest]) -> list[pb_utils.InferenceResponse]:
        """One inference for all requests; each gets its own rows back."""
        batches = [pb_utils.get_input_tensor_by_name(request, "pixels").as_numpy() for request in requests]
        pixels = batches[0] if len(batches) == 1 else np.concatenate(batches)
        fcntl.flock(self.turn, fcntl.LOCK_EX)
        try:
            self.inference.infer([pixels], share_inputs=True)
        finally:
            fcntl.flock(self.turn, fcntl.LOCK_UN)
        results = {name: self.inference.get_tensor(name).data for name in self.output_names}
        responses: list[pb_utils.InferenceResponse] = []
        first = 0
        for request, batch in zip(requests, batches, strict=True):
            rows = slice(first, first + len(batch))
            first = rows.stop
            tensors = [pb_utils.Tensor(name, results[name][rows]) for name in request.requested_output_names()]
            responses.append(pb_utils.InferenceResponse(tensors))
        return responses


def check_shapes(model: ov.Model, config: dict[str, Any], path: Path) -> None:
    """Triton holds requests against the config; this holds the config against the network."""
    for kind, ports in (("input", model.inputs), ("output", model.outputs)):
        shapes = {port.get_any_name(): port.get_partial_shape() for port in ports}
        for tensor in config[kind]:
            name, dims = tensor["name"], [int(size) for size in tensor["dims"]]
            if name not in shapes:
                raise pb_utils.TritonModelException(f"config.pbtxt has an {kind} {name}, and {path} has none")
            if not shapes[name].compatible(ov.PartialShape([-1, *dims])):
                raise pb_utils.TritonModelException(
                    f"config.pbtxt has {kind} {name} of {dims}, and {path} of {shapes[name]}"
                )
