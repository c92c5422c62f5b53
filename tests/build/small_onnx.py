"""The smallest network with a descriptor network's interface: it projects the mean colour."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper


def write_onnx(
    path: Path,
    *,
    name: str = "pixels",
    kind: int = TensorProto.UINT8,
    shape: Sequence[int | str] = ("batch", 32, 48, 3),
    output_kind: int = TensorProto.FLOAT,
    weights: type[np.float16 | np.float32] = np.float16,
    cast_first: bool = True,
) -> Path:
    """Writes the network to `path`, changed as the arguments say, and returns the path."""
    projection = np.random.default_rng(0).normal(size=(3, 8)).astype(weights)
    number = numpy_helper.from_array(projection).data_type
    graph = helper.make_graph(
        [
            *_first_nodes(name, number, cast_first=cast_first),
            helper.make_node("ReduceMean", ["numbers"], ["colour"], axes=[1, 2], keepdims=0),
            helper.make_node("MatMul", ["colour", "projection"], ["projected"]),
            helper.make_node("Cast", ["projected"], ["descriptor"], to=output_kind),
        ],
        "network",
        [helper.make_tensor_value_info(name, kind, shape)],
        [helper.make_tensor_value_info("descriptor", output_kind, ["batch", 8])],
        [numpy_helper.from_array(projection, "projection")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def _first_nodes(name: str, number: int, *, cast_first: bool) -> list[NodeProto]:
    if cast_first:
        return [helper.make_node("Cast", [name], ["numbers"], name="to_numbers", to=number)]
    return [
        helper.make_node("Transpose", [name], ["turned"], name="turn", perm=[0, 2, 1, 3]),
        helper.make_node("Cast", ["turned"], ["numbers"], name="to_numbers", to=number),
    ]
