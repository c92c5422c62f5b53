"""Every exported variant of the network gives the descriptors that torch gives."""

from pathlib import Path

import numpy as np
import pytest

from pspsearch_build.export import export_onnx, read_exported
from pspsearch_build.forms import onnxruntime_form, openvino_form, torch_form
from pspsearch_build.network.calibration import calibrate
from pspsearch_build.network.descriptor_network import build_network
from pspsearch_build.network.onnx_facts import Precision
from pspsearch_build.network.random_pictures import random_pictures
from pspsearch_build.parity import compare_forms
from tests.build.crops import cut_crops
from tests.build.network_variants import FEW, VARIANTS


@pytest.mark.parametrize(
    "name", [name if name in FEW else pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS]
)
def test_every_variant_exports_and_passes_parity(name: str, tmp_path: Path) -> None:
    """ONNX FP32, ONNX FP16, OpenVINO and torch itself stay within the bounds at batch 1 and 8, on photographs."""
    spec = VARIANTS[name]
    network = build_network(spec)
    pictures = np.stack(list(random_pictures(spec.dimension + 4, spec.input, seed=0)))
    calibrate(network, np.array_split(pictures, 4))
    export_onnx(network, tmp_path / "fp32.onnx", Precision.FP32)
    export_onnx(network, tmp_path / "fp16.onnx", Precision.FP16)
    forms = [
        onnxruntime_form(tmp_path / "fp32.onnx", spec.outputs, half=False),
        onnxruntime_form(tmp_path / "fp16.onnx", spec.outputs, half=True),
        openvino_form(tmp_path / "fp16.onnx", spec.outputs),
        torch_form(read_exported(tmp_path / "fp32.onnx")),
    ]

    rows = compare_forms(torch_form(network), forms, cut_crops(32, spec.input))

    assert {row.output for row in rows} == set(spec.outputs)
    assert [row for row in rows if not row.passed] == []
