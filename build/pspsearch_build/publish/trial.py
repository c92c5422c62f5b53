"""Checks, just before a version is published, that it describes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from pspsearch.model.contract import CELLS, DESCRIPTOR
from pspsearch_build.errors import BuildError, PublishRefused
from pspsearch_build.promise import Promise
from pspsearch_build.publish.config import Flavour

_UNIT_TOLERANCE = 1e-3
_SAME_COSINE = 0.9999
"""Two images whose descriptors are as alike as this are the same to the network."""
_STEADY_COSINE = 0.999
"""An image alone and in a batch must have descriptors at least as alike as this, which half precision allows."""


def try_outputs(flavour: Flavour, folder: Path, promise: Promise) -> None:
    """Runs the network in `folder` on two images. Raises PublishRefused if its answers are useless."""
    pixels = _two_images(promise.input.height_px, promise.input.width_px)
    path = folder / flavour.model_file
    try:
        answers, alone = _run(flavour, path, pixels), _run(flavour, path, pixels[:1])
    except BuildError:
        raise
    except Exception as error:  # the runtimes' errors have no class in common
        raise PublishRefused(f"{path.name} cannot be run: {error}") from error
    cells = sum(size * size for size in promise.bins)
    wanted = {DESCRIPTOR: (2, promise.dimension), CELLS: (2, cells, promise.dimension)}
    for name in promise.outputs:
        if name not in answers:
            raise PublishRefused(f"{path.name} promises an output {name}, and has none")
        _check_units(f"{path.name} answers with {name}", answers[name], wanted[name])
    descriptors = answers[DESCRIPTOR]
    if not float(descriptors[0] @ alone[DESCRIPTOR][0]) >= _STEADY_COSINE:  # written so that NaN fails it
        raise PublishRefused(f"{path.name} answers an image alone with another descriptor than beside another image")
    if float(descriptors[0] @ descriptors[1]) > _SAME_COSINE:
        raise PublishRefused(f"{path.name} answers with the same descriptor to two different images")


def _check_units(who: str, rows: NDArray[np.float32], shape: tuple[int, ...]) -> None:
    if rows.shape != shape:
        raise PublishRefused(f"{who} of shape {rows.shape} to two images, not {shape}")
    if not np.isfinite(rows).all():
        raise PublishRefused(f"{who} that is not finite")
    lengths = np.linalg.norm(rows, axis=-1)
    if np.abs(lengths - 1).max() > _UNIT_TOLERANCE:
        raise PublishRefused(f"{who} of length {lengths.max():.4g}, not 1")


def _two_images(height_px: int, width_px: int) -> NDArray[np.uint8]:
    """A shaded ramp and seeded noise: two pictures as different as can be."""
    ramp = np.linspace(0, 255, width_px)[None, :, None] * np.linspace(0, 1, height_px)[:, None, None]
    noise = np.random.default_rng(0).integers(0, 256, (height_px, width_px, 3))
    return np.stack([np.broadcast_to(ramp, noise.shape), noise]).astype(np.uint8)


def _run(flavour: Flavour, path: Path, pixels: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
    match flavour:
        case Flavour.OPENVINO:
            from pspsearch.openvino import ov

            answers = ov.Core().compile_model(path, "CPU")([pixels])
            return {port.get_any_name(): np.asarray(rows, np.float32) for port, rows in answers.items()}
        case Flavour.ONNXRUNTIME:
            import onnxruntime as ort

            session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
            names = [str(port.name) for port in cast("list[Any]", session.get_outputs())]
            rows = cast("list[NDArray[np.float32]]", session.run(names, {"pixels": pixels}))
            return dict(zip(names, rows, strict=True))
        case Flavour.TORCH:
            from pspsearch_build.export import read_exported
            from pspsearch_build.forms import torch_form

            return torch_form(read_exported(path)).run(pixels)
        case Flavour.TENSORRT:
            from pspsearch_build.engine import run_plan

            return run_plan(path, pixels)
