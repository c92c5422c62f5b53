"""Describers by name, as they are spelt on the command line."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pspsearch.contract import Fit, InputShape
from pspsearch_build.errors import BuildError
from pspsearch_build.evaluation.describers import (
    Describer,
    PixelDescriber,
    ServerDescriber,
    colour_histogram,
    of_outputs,
)
from pspsearch_build.evaluation.effort import count_gflop
from pspsearch_build.evaluation.retrieval import Descriptors
from pspsearch_build.forms import Form, Pixels, onnxruntime_form, openvino_form, torch_form
from pspsearch_build.network.backbone import build_backbone, recognise
from pspsearch_build.network.checkpoint import Checkpoint
from pspsearch_build.network.descriptor_network import build_network
from pspsearch_build.network.onnx_facts import Precision, read_onnx_facts
from pspsearch_build.network.spec import NetworkSpec, Padding

_HALF = (0.5, 0.5, 0.5)
_RESIZED_PX, _CUT_PX = 256, 224
_POWER = 3.0
"""Of GeM, as it is before anybody has learned a better one."""


def open_describer(spelling: str) -> Describer:
    """`KIND:WHERE` for one of KINDS, or `hsv`; BuildError where there is no such thing."""
    kind, _, where = spelling.partition(":")
    if kind not in KINDS or bool(where) is (kind == "hsv"):
        spellings = ", ".join(f"{name}:{place}" if place else name for name, (place, _) in KINDS.items())
        raise BuildError(f"{spelling!r} is no describer; these are: {spellings}")
    return KINDS[kind][1](where)


def _open_checkpoint(where: str) -> Describer:
    path = Path(where)
    network = Checkpoint.load(path).network
    return _of_network(path.name, path, network.spec, torch_form(network))


def _open_onnx(where: str) -> Describer:
    path = Path(where)
    facts = read_onnx_facts(path)
    form = onnxruntime_form(path, facts.spec.outputs, half=facts.precision is Precision.FP16)
    return _of_network(f"{path.name}, {form.name}", path, facts.spec, form)


def _open_openvino(where: str) -> Describer:
    path = Path(where)
    spec = read_onnx_facts(path).spec
    form = openvino_form(path, spec.outputs)
    return _of_network(f"{path.name}, {form.name}", path, spec, form)


def _open_version(where: str) -> Describer:
    folder = Path(where)
    path = folder / "model.onnx"
    if not path.is_file():
        raise BuildError(f"{folder} is no model version: it has no model.onnx")
    spec = read_onnx_facts(path).spec
    form = openvino_form(path, spec.outputs)
    return _of_network(f"{folder.parent.name}/{folder.name}, {form.name}", path, spec, form)


def _of_network(name: str, path: Path, spec: NetworkSpec, form: Form) -> Describer:
    gflop = count_gflop(build_network(spec), spec.input)
    return PixelDescriber(name, spec.input, of_outputs(form.run), path.stat().st_size, gflop)


def _open_pooled(pooling: str, pool: Callable[[Tensor], Tensor], where: str) -> Describer:
    """A backbone without its classifier, from weights of TensorFlow's kind, with the crop that such weights expect."""
    name = recognise(Path(where))
    spec = NetworkSpec(
        backbone=name, output_stride=32, padding=Padding.SAME, input=InputShape(_CUT_PX, _CUT_PX), mean=_HALF, std=_HALF
    )
    backbone = build_backbone(spec, Path(where)).eval()
    middle = slice((_RESIZED_PX - _CUT_PX) // 2, (_RESIZED_PX + _CUT_PX) // 2)

    @torch.no_grad()
    def forward(pixels: Tensor) -> Tensor:
        picture = pixels[:, middle, middle].permute(0, 3, 1, 2).float() / 127.5 - 1
        return pool(backbone(picture)[1])

    def run(pixels: Pixels) -> Descriptors:
        return np.asarray(forward(torch.from_numpy(pixels)).numpy(), np.float32)

    shape = InputShape(_RESIZED_PX, _RESIZED_PX, Fit.CROP)
    gflop = count_gflop(forward, shape)
    return PixelDescriber(f"{name}, {pooling}", shape, run, Path(where).stat().st_size, gflop)


def _average(last: Tensor) -> Tensor:
    return last.mean((2, 3))


def _generalised_mean(last: Tensor) -> Tensor:
    return last.clamp_min(1e-6).pow(_POWER).mean((2, 3)).pow(1 / _POWER)


KINDS: dict[str, tuple[str, Callable[[str], Describer]]] = {
    "checkpoint": ("FILE", _open_checkpoint),
    "onnx": ("FILE", _open_onnx),
    "openvino": ("FILE", _open_openvino),
    "version": ("REPOSITORY/MODEL/N", _open_version),
    "server": ("HOST:PORT", ServerDescriber),
    "average": ("WEIGHTS", partial(_open_pooled, "average pooling", _average)),
    "gem": ("WEIGHTS", partial(_open_pooled, "GeM", _generalised_mean)),
    "hsv": ("", lambda _: colour_histogram()),
}
"""What each is opened from, in words, and how."""
