"""A descriptor network without trained weights, for the steps after export: sound, or broken on purpose."""

from enum import StrEnum
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pspsearch.model.contract import InputShape
from pspsearch_build.network.onnx_facts import OnnxFacts, Precision, write_onnx_facts
from pspsearch_build.network.spec import NetworkSpec


class Fault(StrEnum):
    """What may be wrong with the network's answers."""

    NONE = "none"
    NAN = "nan"
    NOT_UNIT = "not unit"
    COLLAPSED = "collapsed"
    OTHER_DIMENSION = "other dimension"


def write_colour_network(
    path: Path,
    *,
    side_px: int = 32,
    dimension: int = 128,
    fault: Fault = Fault.NONE,
    seed: int = 0,
    cells: bool = False,
) -> Path:
    """Writes a network that projects the brightness of each line of pixels; another `seed` gives another network.

    Its cells, if it has any, all hold the picture's descriptor.
    """
    rng = np.random.default_rng(seed)
    width = 512 if fault is Fault.OTHER_DIMENSION else dimension
    projection = rng.normal(size=(3 * side_px, width)).astype(np.float32)
    offset = rng.normal(size=width).astype(np.float32)
    if fault is Fault.COLLAPSED:
        projection *= 1e-9
    scale = np.float32({Fault.NAN: np.nan, Fault.NOT_UNIT: 2.0}.get(fault, 1.0))
    constants = {
        "projection": projection,
        "offset": offset,
        "scale": scale,
        "full": np.float32(255),
        "flat": np.asarray([0, -1]),
    }
    spec = NetworkSpec(input=InputShape(side_px, side_px), dimension=dimension, cells=cells)
    many: list[onnx.NodeProto] = []
    outputs = [helper.make_tensor_value_info("descriptor", TensorProto.FLOAT, ["batch", width])]
    if cells:
        constants |= {"between": np.asarray([1]), "times": np.asarray([1, spec.cell_count, 1])}
        many.append(helper.make_node("Unsqueeze", ["descriptor", "between"], ["one"]))
        many.append(helper.make_node("Tile", ["one", "times"], ["cells"]))
        outputs.append(helper.make_tensor_value_info("cells", TensorProto.FLOAT, ["batch", spec.cell_count, width]))
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["pixels"], ["numbers"], to=TensorProto.FLOAT),
            helper.make_node("Div", ["numbers", "full"], ["shares"]),
            helper.make_node("ReduceMean", ["shares"], ["lines"], axes=[2], keepdims=0),
            helper.make_node("Reshape", ["lines", "flat"], ["row"]),
            helper.make_node("MatMul", ["row", "projection"], ["projected"]),
            helper.make_node("Add", ["projected", "offset"], ["moved"]),
            helper.make_node("LpNormalization", ["moved"], ["unit"], axis=1, p=2),
            helper.make_node("Mul", ["unit", "scale"], ["descriptor"]),
            *many,
        ],
        "colour",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", side_px, side_px, 3])],
        outputs,
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    write_onnx_facts(model, OnnxFacts(spec, Precision.FP32, {"weights": f"drawn by lot, seed {seed}"}))
    onnx.save(model, path)
    return path
