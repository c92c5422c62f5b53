"""Opens describers by their names on the command line."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from pspsearch.domain import DEFAULT_COLLECTION
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
from pspsearch_build.network.checkpoint import Checkpoint
from pspsearch_build.network.descriptor_network import build_network
from pspsearch_build.network.onnx_facts import Precision
from pspsearch_build.network.pooled_backbone import PooledBackbone, Pooling
from pspsearch_build.promise import Promise, read_promise


def open_describer(spelling: str) -> Describer:
    """Opens `KIND:WHERE`, for a kind in KINDS, or `hsv`. Raises BuildError if there is no such describer."""
    kind, _, where = spelling.partition(":")
    if kind not in KINDS or bool(where) is (kind == "hsv"):
        spellings = ", ".join(f"{name}:{place}" if place else name for name, (place, _) in KINDS.items())
        raise BuildError(f"{spelling!r} is no describer; these are: {spellings}")
    return KINDS[kind][1](where)


def _open_checkpoint(where: str) -> Describer:
    path = Path(where)
    network = Checkpoint.load(path).network
    gflop = count_gflop(network, network.spec.input)
    return PixelDescriber(
        path.name, network.spec.input, of_outputs(torch_form(network).run), path.stat().st_size, gflop
    )


def _open_onnx(where: str) -> Describer:
    path = Path(where)
    promise = read_promise(path)
    form = onnxruntime_form(path, promise.outputs, half=promise.precision is Precision.FP16)
    return _of_file(f"{path.name}, {form.name}", path, promise, form)


def _open_openvino(where: str) -> Describer:
    path = Path(where)
    promise = read_promise(path)
    form = openvino_form(path, promise.outputs)
    return _of_file(f"{path.name}, {form.name}", path, promise, form)


def _open_version(where: str) -> Describer:
    folder = Path(where)
    path = folder / "model.onnx"
    if not path.is_file():
        raise BuildError(f"{folder} is no model version: it has no model.onnx")
    promise = read_promise(path)
    form = openvino_form(path, promise.outputs)
    return _of_file(f"{folder.parent.name}/{folder.name}, {form.name}", path, promise, form)


def _of_file(name: str, path: Path, promise: Promise, form: Form) -> Describer:
    gflop = None if promise.spec is None else count_gflop(build_network(promise.spec), promise.input)
    return PixelDescriber(name, promise.input, of_outputs(form.run), path.stat().st_size, gflop)


def _open_server(where: str) -> Describer:
    address, _, collection = where.partition("/")
    return ServerDescriber(address, collection or DEFAULT_COLLECTION)


def _open_pooled(pooling: Pooling, where: str) -> Describer:
    network = PooledBackbone(Path(where), pooling)

    def run(pixels: Pixels) -> Descriptors:
        with torch.no_grad():
            return np.asarray(network(torch.from_numpy(pixels)).numpy(), np.float32)

    name = f"{network.name}, {_POOLINGS[pooling]}"
    gflop = count_gflop(network, network.shape)
    return PixelDescriber(name, network.shape, run, Path(where).stat().st_size, gflop)


_POOLINGS = {Pooling.AVERAGE: "average pooling", Pooling.GEM: "GeM"}

KINDS: dict[str, tuple[str, Callable[[str], Describer]]] = {
    "checkpoint": ("FILE", _open_checkpoint),
    "onnx": ("FILE", _open_onnx),
    "openvino": ("FILE", _open_openvino),
    "version": ("REPOSITORY/MODEL/N", _open_version),
    "server": ("HOST:PORT[/COLLECTION]", _open_server),
    "average": ("WEIGHTS", partial(_open_pooled, Pooling.AVERAGE)),
    "gem": ("WEIGHTS", partial(_open_pooled, Pooling.GEM)),
    "hsv": ("", lambda _: colour_histogram()),
}
"""For each kind, what it is opened from, in words, and the function that opens it."""
