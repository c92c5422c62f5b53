"""The forms that a network takes on its way to Triton, each as a function from pixels to outputs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from pspsearch.model.contract import PIXELS
from pspsearch.openvino import ov
from pspsearch_build.network.descriptor_network import DescriptorNetwork

Pixels = NDArray[np.uint8]
"""[batch, height_px, width_px, 3], RGB."""

Outputs = dict[str, NDArray[np.float32]]
"""Outputs by name; the first axis of each is the batch."""


@dataclass(frozen=True, slots=True)
class Form:
    """One form of a network."""

    name: str
    half: bool
    """Whether weights and activations are FP16 or bf16, which decides how much the form may differ."""
    run: Callable[[Pixels], Outputs]
    """Runs one batch of any size."""


def torch_form(network: DescriptorNetwork) -> Form:
    """The network itself, in FP32 on the CPU: the reference for the other forms."""

    def run(pixels: Pixels) -> Outputs:
        with torch.inference_mode():
            outputs = network(torch.from_numpy(pixels))
        return {name: output.numpy() for name, output in zip(network.spec.outputs, outputs, strict=True)}

    return Form("torch fp32", half=False, run=run)


def onnxruntime_form(onnx: Path, outputs: Sequence[str], *, half: bool) -> Form:
    """An exported file in onnxruntime on the CPU, which stores FP16 but computes mostly in FP32."""
    session = ort.InferenceSession(onnx, providers=["CPUExecutionProvider"])

    def run(pixels: Pixels) -> Outputs:
        answers = cast(list[NDArray[np.float32]], session.run(list(outputs), {PIXELS: pixels}))
        return dict(zip(outputs, answers, strict=True))

    return Form(f"onnxruntime {'fp16' if half else 'fp32'}", half=half, run=run)


def openvino_form(onnx: Path, outputs: Sequence[str]) -> Form:
    """An FP16 file in OpenVINO on the CPU: in bf16 if the processor has it, else in FP32; the name says which."""
    core = ov.Core()
    precision = "bf16" if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"
    compiled = core.compile_model(onnx, "CPU", {"INFERENCE_PRECISION_HINT": precision})

    def run(pixels: Pixels) -> Outputs:
        answers = compiled([pixels])
        return {name: np.array(answers[name], np.float32) for name in outputs}

    return Form(f"openvino {precision}", half=True, run=run)


def plan_form(plan: Path) -> Form:
    """A TensorRT engine. It needs TensorRT and the GPU that it was built for."""
    from pspsearch_build.engine import run_plan

    return Form("tensorrt plan", half=True, run=partial(run_plan, plan))
