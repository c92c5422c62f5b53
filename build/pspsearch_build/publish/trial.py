"""The last look at a version before it is published: does it describe?"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pspsearch.contract import DESCRIPTOR
from pspsearch_build.errors import PublishRefused
from pspsearch_build.network.spec import NetworkSpec
from pspsearch_build.publish.config import Flavour

_UNIT_TOLERANCE = 1e-3
_SAME_COSINE = 0.9999


def try_descriptors(flavour: Flavour, folder: Path, spec: NetworkSpec) -> None:
    """Runs the network in `folder` on two images; PublishRefused where its descriptors are useless."""
    pixels = _two_images(spec.input.height_px, spec.input.width_px)
    path = folder / flavour.model_file
    try:
        descriptors = _run(flavour, path, pixels)
    except (RuntimeError, ValueError) as error:
        raise PublishRefused(f"{path.name} cannot be run: {error}") from error
    if descriptors.shape != (2, spec.dimension):
        raise PublishRefused(f"{path.name} answers {descriptors.shape} to two images, not (2, {spec.dimension})")
    if not np.isfinite(descriptors).all():
        raise PublishRefused(f"{path.name} answers with numbers that are not finite")
    lengths = np.linalg.norm(descriptors, axis=1)
    if np.abs(lengths - 1).max() > _UNIT_TOLERANCE:
        raise PublishRefused(f"{path.name} answers with a descriptor of length {lengths.max():.4g}, not 1")
    if float(descriptors[0] @ descriptors[1]) > _SAME_COSINE:
        raise PublishRefused(f"{path.name} answers with the same descriptor to two different images")


def _two_images(height_px: int, width_px: int) -> NDArray[np.uint8]:
    """A shaded ramp and seeded noise: as unlike as two pictures can be."""
    ramp = np.linspace(0, 255, width_px)[None, :, None] * np.linspace(0, 1, height_px)[:, None, None]
    noise = np.random.default_rng(0).integers(0, 256, (height_px, width_px, 3))
    return np.stack([np.broadcast_to(ramp, noise.shape), noise]).astype(np.uint8)


def _run(flavour: Flavour, path: Path, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    match flavour:
        case Flavour.OPENVINO:
            import openvino as ov

            compiled = ov.Core().compile_model(path, "CPU")
            return np.asarray(compiled([pixels])[DESCRIPTOR], np.float32)
        case Flavour.ONNXRUNTIME:
            import onnxruntime as ort

            session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
            return np.asarray(session.run([DESCRIPTOR], {"pixels": pixels})[0], np.float32)
        case Flavour.TORCH:
            from pspsearch_build.export import read_exported
            from pspsearch_build.forms import torch_form

            return torch_form(read_exported(path)).run(pixels)[DESCRIPTOR]
        case Flavour.TENSORRT:
            from pspsearch_build.engine import run_plan

            return run_plan(path, pixels)[DESCRIPTOR]
