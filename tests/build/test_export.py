"""The exported file: its types, its facts, its bytes."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from onnx import TensorProto

from pspsearch_build.cli import commands
from pspsearch_build.errors import BuildError
from pspsearch_build.export import export_onnx, read_exported
from pspsearch_build.forms import onnxruntime_form
from pspsearch_build.network.onnx_facts import Precision, read_onnx_facts
from tests.build.crops import cut_crops
from tests.build.small_networks import SMALL, small_checkpoint


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[Precision, Path]:
    """The small network in both precisions."""
    folder = tmp_path_factory.mktemp("onnx")
    for precision in Precision:
        export_onnx(small_checkpoint().network, folder / f"{precision}.onnx", precision, {"data": "none"})
    return {precision: folder / f"{precision}.onnx" for precision in Precision}


def _element_types(path: Path) -> dict[str, int]:
    """The type of every tensor of the graph, by name, as ONNX infers it."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True).graph
    values = [*graph.input, *graph.value_info, *graph.output]
    return {value.name: value.type.tensor_type.elem_type for value in values} | {
        tensor.name: tensor.data_type for tensor in graph.initializer
    }


def _outputs_of(path: Path, kinds: set[str]) -> list[str]:
    return [name for node in onnx.load(path).graph.node if node.op_type in kinds for name in node.output]


@pytest.mark.parametrize("precision", Precision)
def test_pixels_go_in_and_fp32_comes_out(files: dict[Precision, Path], precision: Precision) -> None:
    """Input is uint8 NHWC with a free batch; both outputs are FP32, whatever happens between."""
    graph = onnx.load(files[precision]).graph

    found = {
        value.name: (
            value.type.tensor_type.elem_type,
            [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim],
        )
        for value in [*graph.input, *graph.output]
    }

    assert found == {
        "pixels": (TensorProto.UINT8, ["batch", 80, 96, 3]),
        "descriptor": (TensorProto.FLOAT, ["batch", 128]),
        "cells": (TensorProto.FLOAT, ["batch", 50, 128]),
    }


def test_the_fp16_file_is_strongly_typed(files: dict[Precision, Path]) -> None:
    """Every convolution computes in FP16 with FP16 weights; powers, norms and the projection compute in FP32."""
    path = files[Precision.FP16]
    types = _element_types(path)
    convolutions = [node for node in onnx.load(path).graph.node if node.op_type == "Conv"]

    assert len(convolutions) == 58
    assert {types[name] for node in convolutions for name in [*node.input, *node.output]} == {TensorProto.FLOAT16}
    assert {types[name] for name in _outputs_of(path, {"Pow", "Sqrt", "Gemm", "Div"})} == {TensorProto.FLOAT}
    casts = Counter(node.op_type for node in onnx.load(path).graph.node)["Cast"]
    assert casts == 4  # uint8, into FP16, out of it, and the stem's padding


def test_the_fp32_file_holds_no_half(files: dict[Precision, Path]) -> None:
    """This file is the reference for the others."""
    assert TensorProto.FLOAT16 not in _element_types(files[Precision.FP32]).values()


@pytest.mark.parametrize("precision", Precision)
def test_training_leaves_no_trace(files: dict[Precision, Path], precision: Precision) -> None:
    """BatchNorm is folded; dropout and the segmentation head are gone."""
    model = onnx.load(files[precision])

    assert not {"BatchNormalization", "Dropout"} & {node.op_type for node in model.graph.node}
    assert not [tensor.name for tensor in model.graph.initializer if "segmentation" in tensor.name]


@pytest.mark.parametrize("precision", Precision)
def test_the_same_network_is_the_same_file(files: dict[Precision, Path], precision: Precision, tmp_path: Path) -> None:
    """So a version's digest tells whether the model changed."""
    export_onnx(small_checkpoint().network, tmp_path / "again.onnx", precision, {"data": "none"})

    assert (tmp_path / "again.onnx").read_bytes() == files[precision].read_bytes()
    assert list(tmp_path.iterdir()) == [tmp_path / "again.onnx"]


def test_exporting_leaves_the_network_as_it_was(tmp_path: Path) -> None:
    """Folding and rounding work on a copy."""
    network = small_checkpoint().network
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    export_onnx(network, tmp_path / "x.onnx", Precision.FP16)

    assert network.segmentation is not None
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("precision", Precision)
def test_a_batch_equals_its_pictures_one_by_one(files: dict[Precision, Path], precision: Precision) -> None:
    """Batches of 1 and 7 answer alike; 1e-5 is FP32's rounding, because onnxruntime sums in FP32 for both files."""
    form = onnxruntime_form(files[precision], SMALL.outputs, half=precision is Precision.FP16)
    pixels = cut_crops(7, SMALL.input)

    together = form.run(pixels)
    alone = [form.run(pixels[place : place + 1]) for place in range(7)]

    for name in SMALL.outputs:
        parts = np.concatenate([outputs[name] for outputs in alone])
        np.testing.assert_allclose(together[name], parts, atol=1e-5 if precision is Precision.FP32 else 2e-3)


@pytest.mark.parametrize("precision", Precision)
def test_the_facts_are_in_the_file(files: dict[Precision, Path], precision: Precision) -> None:
    """Later steps need nothing else."""
    facts = read_onnx_facts(files[precision])

    assert (facts.spec, facts.precision, facts.provenance) == (SMALL, precision, {"data": "none"})


def test_facts_are_read_without_torch(files: dict[Precision, Path]) -> None:
    """Publishing a version must not load torch."""
    code = (
        "import sys; from pathlib import Path; from pspsearch_build.network.onnx_facts import read_onnx_facts; "
        "print(read_onnx_facts(Path(sys.argv[1])).spec.dimension, 'torch' in sys.modules)"
    )

    answer = subprocess.run(
        [sys.executable, "-c", code, str(files[Precision.FP16])], capture_output=True, text=True, check=True
    )

    assert answer.stdout.split() == ["128", "False"]


def test_a_trained_network_is_exported_without_its_cells(files: dict[Precision, Path], tmp_path: Path) -> None:
    """This serves models whose versions have no cells; the descriptors stay the same."""
    kept, plain = tmp_path / "kept.safetensors", tmp_path / "plain.onnx"
    small_checkpoint().save(kept)

    told = CliRunner().invoke(
        commands, ["export", "--checkpoint", str(kept), "--no-cells", "--precision", "fp32", "--output", str(plain)]
    )

    assert told.exit_code == 0, told.output
    assert read_onnx_facts(plain).spec.outputs == ("descriptor",)
    pixels = cut_crops(2, SMALL.input)
    rows = [
        onnxruntime_form(path, outputs, half=False).run(pixels)["descriptor"]
        for path, outputs in ((plain, ("descriptor",)), (files[Precision.FP32], SMALL.outputs))
    ]
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-5)  # FP32, summed in another order


def test_a_file_without_facts_is_refused(tmp_path: Path) -> None:
    """Other ONNX files, files that are not ONNX, and missing files are refused."""
    onnx.save(onnx.ModelProto(), tmp_path / "foreign.onnx")
    (tmp_path / "junk.onnx").write_bytes(b"\xff\xff junk")

    with pytest.raises(BuildError, match=r"foreign\.onnx was not written by"):
        read_onnx_facts(tmp_path / "foreign.onnx")
    with pytest.raises(BuildError, match=r"junk\.onnx cannot be read as ONNX"):
        read_onnx_facts(tmp_path / "junk.onnx")
    with pytest.raises(BuildError, match=r"none\.onnx: there is no such"):
        read_onnx_facts(tmp_path / "none.onnx")


def test_an_export_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    """The error names the file."""
    with pytest.raises(BuildError, match=r"none/x\.onnx cannot be written"):
        export_onnx(small_checkpoint().network, tmp_path / "none" / "x.onnx", Precision.FP32)


def test_a_file_of_an_earlier_release_is_refused(files: dict[Precision, Path], tmp_path: Path) -> None:
    """Its first layers were not centred and had other names, so today's code would answer wrongly."""
    model = onnx.load(files[Precision.FP32])
    for tensor in model.graph.initializer:
        tensor.name = tensor.name.replace("early.1.conv.0.0.1.", "early.1.conv.0.0.")
    onnx.save(model, tmp_path / "old.onnx")

    with pytest.raises(BuildError, match=r"early\.1\.conv\.0\.0\.1\.weight is missing.*export the network again"):
        read_exported(tmp_path / "old.onnx")
