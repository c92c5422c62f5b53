"""Wraps another maker's network so that it takes pixels and gives unit descriptors.

Most such networks take a float tensor of normalised colours and give an output of any length. So the wrapper casts,
normalises and reorders the axes before the network, and divides by the length after it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, ValueInfoProto, compose, helper, numpy_helper

from pspsearch.model.contract import DESCRIPTOR, PIXELS, Fit, InputShape
from pspsearch_build.atomic_file import replacing
from pspsearch_build.errors import BuildError
from pspsearch_build.network.onnx_facts import Precision, load_onnx
from pspsearch_build.promise import Promise, write_promise

_THEIRS = "network/"
"""Prefixes every name in the other maker's graph, so that none clashes with ours."""
_FLOATS = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16}


@dataclass(frozen=True, slots=True)
class Colours:
    """The colours that the network expects: (value / 255 - mean) / std, per channel."""

    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise BuildError(f"mean {self.mean} and std {self.std} need three numbers each, and std positive ones")


def adapt(
    source: Path,
    target: Path,
    *,
    fit: Fit,
    side_px: int | None = None,
    colours: Colours = Colours(),
    output: str | None = None,
) -> Promise:
    """Wraps the network in our interface, writes it atomically, and returns what it promises.

    `side_px` is needed if the network takes pictures of any size, and `output` if it has several outputs. Raises
    BuildError if the network takes anything but pictures, or gives anything but one vector for each.
    """
    model = compose.add_prefix(load_onnx(source), _THEIRS)
    graph = model.graph
    taken = _only_input(source, graph)
    kind, turned, (height_px, width_px) = _layout(source, taken, side_px)
    given = _output(source, graph, output)
    halves = any(tensor.data_type == TensorProto.FLOAT16 for tensor in graph.initializer)

    before = _before(taken.name, kind, turned=turned)
    after = [
        helper.make_node("Cast", [given.name], ["theirs"], to=TensorProto.FLOAT),
        helper.make_node("LpNormalization", ["theirs"], [DESCRIPTOR], axis=-1, p=2),
    ]
    nodes = [*before, *graph.node, *after]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    graph.initializer.extend(_constants(kind, colours))
    graph.input.append(helper.make_tensor_value_info(PIXELS, TensorProto.UINT8, ["batch", height_px, width_px, 3]))
    graph.output.append(helper.make_tensor_value_info(DESCRIPTOR, TensorProto.FLOAT, ["batch", "dimension"]))
    dimension = _try(source, model, (height_px, width_px))
    graph.output[0].type.tensor_type.shape.dim[1].dim_value = dimension
    promise = Promise(
        InputShape(height_px, width_px, fit),
        dimension,
        Precision.FP16 if halves else Precision.FP32,
        provenance={"network": source.name, "sha256": hashlib.sha256(source.read_bytes()).hexdigest()},
    )
    write_promise(model, promise)
    with replacing(target) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))
    return promise


def _only_input(source: Path, graph: onnx.GraphProto) -> ValueInfoProto:
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(value.name.removeprefix(_THEIRS) for value in inputs) or "nothing"
        raise BuildError(f"{source} takes {names}, and a descriptor network takes one tensor of pictures")
    return inputs[0]


def _layout(source: Path, taken: ValueInfoProto, side_px: int | None) -> tuple[int, bool, tuple[int, int]]:
    """The element type, whether the channels come before the lines, and (height_px, width_px)."""
    kind = taken.type.tensor_type.elem_type
    dims = [size.dim_value for size in taken.type.tensor_type.shape.dim]  # 0 means any size
    if kind not in (*_FLOATS, TensorProto.UINT8) or len(dims) != 4 or 3 not in (dims[1], dims[3]):
        name = taken.name.removeprefix(_THEIRS)
        raise BuildError(f"{source}: {name} of {dims} is no tensor of pictures: batch, 3 colours, lines and columns")
    turned = dims[1] == 3
    height_px, width_px = ((size or side_px) for size in (dims[2:] if turned else dims[1:3]))
    if height_px is None or width_px is None:
        raise BuildError(f"{source} takes pictures of any size: say which size it should get")
    return kind, turned, (height_px, width_px)


def _output(source: Path, graph: onnx.GraphProto, name: str | None) -> ValueInfoProto:
    outputs = {value.name.removeprefix(_THEIRS): value for value in graph.output}
    if name is None and len(outputs) > 1:
        raise BuildError(f"{source} has the outputs {', '.join(outputs)}: say which one is the descriptor")
    if name is not None and name not in outputs:
        raise BuildError(f"{source} has no output {name}, but {', '.join(outputs)}")
    return outputs[name] if name is not None else next(iter(outputs.values()))


def _before(taken: str, kind: int, *, turned: bool) -> list[NodeProto]:
    """The nodes from our pixels to the network's input. A network that takes bytes normalises them itself."""
    if kind == TensorProto.UINT8:
        return [_turn(PIXELS, taken, turned=turned)]
    return [
        helper.make_node("Cast", [PIXELS], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["numbers", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["shifted"]),
        helper.make_node("Cast", ["shifted"], ["normalised"], to=kind),
        _turn("normalised", taken, turned=turned),
    ]


def _turn(source: str, target: str, *, turned: bool) -> NodeProto:
    if turned:
        return helper.make_node("Transpose", [source], [target], perm=[0, 3, 1, 2])
    return helper.make_node("Identity", [source], [target])


def _constants(kind: int, colours: Colours) -> list[TensorProto]:
    if kind == TensorProto.UINT8:
        return []
    std = np.asarray(colours.std, np.float32)
    scale, shift = 1 / (255 * std), -np.asarray(colours.mean, np.float32) / std
    return [numpy_helper.from_array(scale, "scale"), numpy_helper.from_array(shift, "shift")]


def _try(source: Path, model: onnx.ModelProto, size: tuple[int, int]) -> int:
    """Runs the model on two random pictures and returns the dimension of its output."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, *size, 3)).astype(np.uint8)
    try:
        session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        (rows,) = cast("Sequence[NDArray[np.float32]]", session.run([DESCRIPTOR], {PIXELS: pixels}))
    except Exception as error:  # onnxruntime's errors have no common class
        raise BuildError(f"{source} cannot be run on two pictures at once: {error}") from error
    if rows.ndim != 2 or len(rows) != 2:
        raise BuildError(
            f"{source} gives {'x'.join(map(str, rows.shape))} numbers for two pictures, not one vector each"
        )
    return int(rows.shape[1])
