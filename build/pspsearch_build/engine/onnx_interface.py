"""What TensorRT needs to know about an ONNX file, checked before TensorRT starts."""

from dataclasses import dataclass
from pathlib import Path

from onnx import GraphProto, TensorProto, ValueInfoProto

from pspsearch.model.contract import PIXELS, InputShape
from pspsearch_build.errors import BuildError
from pspsearch_build.network.onnx_facts import load_onnx


@dataclass(frozen=True, slots=True)
class OnnxInterface:
    """A network's input and the names of its outputs."""

    input: InputShape
    outputs: tuple[str, ...]


def read_interface(path: Path) -> OnnxInterface:
    """Reads the file's interface. Raises BuildError if no FP16 plan can be built from it."""
    graph = load_onnx(path).graph
    pixels = _only_input(path, graph)
    shape = _fixed_size(path, pixels)
    for output in graph.output:
        if output.type.tensor_type.elem_type != TensorProto.FLOAT:
            raise BuildError(f"{path}: output {output.name} is {_type_name(output)}, not FLOAT")
    if not any(weights.data_type == TensorProto.FLOAT16 for weights in graph.initializer):
        raise BuildError(
            f"{path} has no FP16 weights, and TensorRT takes the precision from the file: export it as fp16"
        )
    for node in graph.node:
        if PIXELS in node.input and node.op_type != "Cast":
            raise BuildError(
                f"{path} feeds {PIXELS} to {node.op_type} node {node.name!r}: TensorRT takes uint8 only into a Cast"
            )
    return OnnxInterface(shape, tuple(output.name for output in graph.output))


def _only_input(path: Path, graph: GraphProto) -> ValueInfoProto:
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if [value.name for value in inputs] != [PIXELS]:
        names = ", ".join(value.name for value in inputs) or "nothing"
        raise BuildError(f"{path} takes {names}, not one input named {PIXELS}")
    if inputs[0].type.tensor_type.elem_type != TensorProto.UINT8:
        raise BuildError(f"{path}: input {PIXELS} is {_type_name(inputs[0])}, not UINT8")
    return inputs[0]


def _fixed_size(path: Path, pixels: ValueInfoProto) -> InputShape:
    sizes = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in pixels.type.tensor_type.shape.dim]
    match sizes:
        case [-1, height_px, width_px, 3] if height_px > 0 and width_px > 0:
            return InputShape(height_px, width_px)
        case _:
            shown = ", ".join("any" if size == -1 else str(size) for size in sizes)
            raise BuildError(f"{path}: input {PIXELS} is [{shown}], not [any batch, height, width, 3]")


def _type_name(value: ValueInfoProto) -> str:
    return TensorProto.DataType.Name(value.type.tensor_type.elem_type)
