"""Other makers' networks: how they are wrapped, and which are refused."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from pspsearch.model.contract import Contract, Fit, InputShape, parameter_key
from pspsearch_build.adapt import Colours, adapt
from pspsearch_build.cli.adapt import adapt as adapt_command
from pspsearch_build.errors import BuildError
from pspsearch_build.evaluation.sources import open_describer
from pspsearch_build.forms import onnxruntime_form
from pspsearch_build.promise import read_promise
from pspsearch_build.publish import Flavour, Publication, publish
from pspsearch_build.publish.config import parse
from tests.pictures import encode, load_photo

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


def write_theirs(
    path: Path,
    *,
    kind: int = TensorProto.FLOAT,
    dims: Sequence[int | str] = ("n", 3, 8, 12),
    outputs: Sequence[str] = ("pixels",),
    keepdims: int = 0,
    one_only: bool = False,
) -> NDArray[np.float64]:
    """Writes a network that projects the mean colour to 5 numbers, with names like ours; returns the projection."""
    projection = np.random.default_rng(1).normal(size=(3, 5))
    axes = [2, 3] if dims[1] == 3 else [1, 2]
    number = TensorProto.FLOAT if kind == TensorProto.UINT8 else kind
    size = np.asarray([1, 3] if one_only else [-1, 3] if not keepdims else [-1, 1, 1, 3])
    weights = projection.astype(np.float16 if number == TensorProto.FLOAT16 else np.float32)
    nodes = [
        helper.make_node("Cast", ["descriptor"], ["numbers"], to=number),
        helper.make_node("ReduceMean", ["numbers"], ["mean"], axes=axes, keepdims=keepdims),
        helper.make_node("Reshape", ["mean", "size"], ["colour"]),
        *(helper.make_node("MatMul", ["colour", "projection"], [name]) for name in outputs),
    ]
    graph = helper.make_graph(
        nodes,
        "theirs",
        [helper.make_tensor_value_info("descriptor", kind, dims)],
        [helper.make_tensor_value_info(name, number, None) for name in outputs],
        [
            numpy_helper.from_array(weights, "projection"),
            numpy_helper.from_array(size, "size"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return projection


def pictures(height_px: int, width_px: int) -> NDArray[np.uint8]:
    """Three pictures of coloured noise."""
    noise = np.random.default_rng(2).integers(0, 256, (3, height_px, width_px, 3)) * [[[[1.0]]], [[[0.5]]], [[[0.1]]]]
    return (noise * [1, 0.8, 0.2]).astype(np.uint8)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16])
@pytest.mark.parametrize("dims", [("n", 3, 8, 12), ("n", 8, 12, 3), (1, 3, 8, 12)])
def test_pixels_in_and_unit_descriptors_out(tmp_path: Path, kind: int, dims: tuple[int | str, ...]) -> None:
    """The result equals a computation by hand, whatever the axes' order and the numbers' type."""
    projection = write_theirs(tmp_path / "theirs.onnx", kind=kind, dims=dims)

    promise = adapt(tmp_path / "theirs.onnx", tmp_path / "ours.onnx", fit=Fit.PAD, colours=Colours(MEAN, STD))

    assert (promise.input, promise.dimension) == (InputShape(8, 12, Fit.PAD), 5)
    assert read_promise(tmp_path / "ours.onnx") == promise
    pixels = pictures(8, 12)
    expected = (((pixels / 255 - MEAN) / STD).mean(axis=(1, 2))) @ projection
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    described = onnxruntime_form(tmp_path / "ours.onnx", promise.outputs, half=False).run(pixels)["descriptor"]
    np.testing.assert_allclose(described, expected, atol=1e-5 if kind == TensorProto.FLOAT else 1e-2)


def test_a_network_of_bytes_normalises_them_by_itself(tmp_path: Path) -> None:
    """Nothing is put before a network that takes bytes."""
    projection = write_theirs(tmp_path / "theirs.onnx", kind=TensorProto.UINT8)

    promise = adapt(tmp_path / "theirs.onnx", tmp_path / "ours.onnx", fit=Fit.CROP)

    pixels = pictures(8, 12)
    expected = pixels.mean(axis=(1, 2)) @ projection
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    described = onnxruntime_form(tmp_path / "ours.onnx", promise.outputs, half=False).run(pixels)["descriptor"]
    np.testing.assert_allclose(described, expected, atol=1e-5)


def test_it_is_published_and_evaluated_as_our_own(tmp_path: Path) -> None:
    """The contract repeats what `adapt` was told, and names the shared space."""
    write_theirs(tmp_path / "theirs.onnx")
    adapt(tmp_path / "theirs.onnx", tmp_path / "ours.onnx", fit=Fit.SQUASH)
    (tmp_path / "models").mkdir()

    folder = publish(
        Publication(tmp_path / "ours.onnx", tmp_path / "models", "theirs", flavour=Flavour.ONNXRUNTIME, space="theirs")
    )

    config = parse((folder.parent / "config.pbtxt").read_text(), "config.pbtxt")
    contract = Contract.from_json(config.parameters[parameter_key(1)].string_value)
    assert (contract.input, contract.dimension, contract.space) == (InputShape(8, 12, Fit.SQUASH), 5, "theirs")
    (tmp_path / "photo.jpg").write_bytes(encode(load_photo()))
    describer = open_describer(f"onnx:{tmp_path / 'ours.onnx'}")
    assert describer.gflop is None
    assert describer.describe([tmp_path / "photo.jpg"], lambda _: None).shape == (1, 5)


def test_of_several_outputs_one_is_named(tmp_path: Path) -> None:
    """The other outputs are dropped."""
    write_theirs(tmp_path / "theirs.onnx", outputs=("logits", "pooled"))

    result = CliRunner().invoke(
        adapt_command,
        [
            str(tmp_path / "theirs.onnx"),
            "--output",
            str(tmp_path / "ours.onnx"),
            "--fit",
            "crop",
            "--descriptor",
            "pooled",
        ],
    )

    assert result.output == f"wrote {tmp_path / 'ours.onnx'}: 8x12 px to 5 dimensions\n"
    assert [one.name for one in onnx.load(tmp_path / "ours.onnx").graph.output] == ["descriptor"]


def test_a_network_of_any_size_is_given_one(tmp_path: Path) -> None:
    """The input becomes a square of the given side."""
    write_theirs(tmp_path / "theirs.onnx", dims=("n", 3, "height", "width"))

    assert adapt(tmp_path / "theirs.onnx", tmp_path / "o.onnx", fit=Fit.CROP, side_px=16).input == InputShape(
        16, 16, Fit.CROP
    )
    with pytest.raises(BuildError, match="takes pictures of any size: say which size it should get"):
        adapt(tmp_path / "theirs.onnx", tmp_path / "p.onnx", fit=Fit.CROP)
    assert not (tmp_path / "p.onnx").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dims": ("n", 4, 8, 12)}, r"descriptor of \[0, 4, 8, 12\] is no tensor of pictures"),
        ({"dims": ("n", 3)}, "is no tensor of pictures"),
        ({"kind": TensorProto.INT64}, "is no tensor of pictures"),
        ({"one_only": True}, "cannot be run on two pictures at once"),
        ({"outputs": ("one", "other")}, "has the outputs one, other: say which one is the descriptor"),
        ({"dims": ("n", 8, 12, 3), "keepdims": 1}, "gives 2x1x1x5 numbers for two pictures"),
    ],
)
def test_what_cannot_be_a_descriptor_network_is_refused(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    """The error is one sentence, and nothing is written."""
    write_theirs(tmp_path / "theirs.onnx", **changes)  # pyright: ignore[reportArgumentType] - the types are right

    with pytest.raises(BuildError, match=words):
        adapt(tmp_path / "theirs.onnx", tmp_path / "ours.onnx", fit=Fit.CROP)
    assert not (tmp_path / "ours.onnx").exists()


def test_other_bad_input_is_a_sentence(tmp_path: Path) -> None:
    """A missing file, a missing output, and colours with a std of 0 are refused in a sentence."""
    write_theirs(tmp_path / "theirs.onnx")
    with pytest.raises(BuildError, match="there is no such ONNX file"):
        adapt(tmp_path / "nothing.onnx", tmp_path / "ours.onnx", fit=Fit.CROP)
    with pytest.raises(BuildError, match="has no output there, but pixels"):
        adapt(tmp_path / "theirs.onnx", tmp_path / "ours.onnx", fit=Fit.CROP, output="there")
    with pytest.raises(BuildError, match="std positive ones"):
        Colours(std=(1, 0, 1))
