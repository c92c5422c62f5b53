"""Runs a plan, and compares it with the ONNX file that it was built from."""

from pathlib import Path

import numpy as np

from pspsearch_build.engine.onnx_interface import OnnxInterface
from pspsearch_build.engine.settings import Batches
from pspsearch_build.errors import ParityError
from pspsearch_build.forms import Outputs, Pixels, onnxruntime_form
from pspsearch_build.network.random_pictures import random_pictures

LEAST_COSINE = 0.999
"""The least cosine between a plan and its ONNX file: both compute in FP16, but sum in another order."""


def run_plan(plan: Path, pixels: Pixels) -> Outputs:
    """The outputs by name for pixels uint8 [batch, height_px, width_px, 3], with a batch within the plan's bounds.

    Loads the plan on every call. Raises BuildError without TensorRT or a GPU, or if the plan is for another TensorRT or
    GPU.
    """
    from pspsearch_build.engine.runner import run

    return run(plan, pixels)


def check_plan(plan: Path, onnx: Path, interface: OnnxInterface, batches: Batches) -> None:
    """Compares plan and ONNX file on the smallest and the largest batch. Raises ParityError if they differ."""
    reference = onnxruntime_form(onnx, interface.outputs, half=True)
    for batch in sorted({batches.min, batches.max}):
        pixels = np.stack(list(random_pictures(batch, interface.input, seed=0)))
        require_parity(f"{onnx.name} at batch {batch}", reference.run(pixels), run_plan(plan, pixels))


def require_parity(what: str, expected: Outputs, answers: Outputs) -> None:
    """Raises ParityError if an output is missing, or if a descriptor in it differs too much from the expected one."""
    for name, reference in expected.items():
        if name not in answers or answers[name].shape != reference.shape:
            raise ParityError(f"{what}: the plan has no output {name} of shape {reference.shape}")
        with np.errstate(invalid="ignore"):  # a descriptor of zeros, or with NaN or infinity in it, gives NaN
            lengths = np.linalg.norm(reference, axis=-1) * np.linalg.norm(answers[name], axis=-1)
            cosine = float(np.min((reference * answers[name]).sum(axis=-1) / lengths))
        if not cosine >= LEAST_COSINE:  # NaN fails, too
            raise ParityError(
                f"{what}: the plan's {name} has cosine {cosine:.5f} to the ONNX file's, not {LEAST_COSINE}"
            )
