"""ONNX files that are refused before TensorRT starts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from pspsearch.model.contract import InputShape
from pspsearch_build.engine.onnx_interface import OnnxInterface, read_interface
from pspsearch_build.errors import BuildError
from pspsearch_build.export import export_onnx
from pspsearch_build.network.descriptor_network import build_network
from pspsearch_build.network.onnx_facts import Precision
from pspsearch_build.network.spec import NetworkSpec
from tests.build.small_onnx import write_onnx


def test_an_fp16_network_is_taken(tmp_path: Path) -> None:
    """Size and outputs are read from the file."""
    interface = read_interface(write_onnx(tmp_path / "network.onnx"))

    assert interface == OnnxInterface(InputShape(32, 48), ("descriptor",))


def test_an_exported_network_is_taken(tmp_path: Path) -> None:
    """Our own export gives TensorRT what it needs: uint8 straight into a Cast, FP16 weights, FP32 out."""
    spec = NetworkSpec(input=InputShape(64, 64), cells=True)
    export_onnx(build_network(spec), tmp_path / "network.onnx", Precision.FP16)

    interface = read_interface(tmp_path / "network.onnx")

    assert interface == OnnxInterface(InputShape(64, 64), ("descriptor", "cells"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": "image"}, "takes image, not one input named pixels"),
        ({"kind": TensorProto.FLOAT}, "input pixels is FLOAT, not UINT8"),
        ({"weights": np.float32}, "has no FP16 weights, and TensorRT takes the precision from the file: export it as"),
        ({"output_kind": TensorProto.FLOAT16}, "output descriptor is FLOAT16, not FLOAT"),
        ({"cast_first": False}, "feeds pixels to Transpose node 'turn': TensorRT takes uint8 only into a Cast"),
        ({"shape": (1, 32, 48, 3)}, r"input pixels is \[1, 32, 48, 3\], not \[any batch, height, width, 3\]"),
        ({"shape": ("batch", "h", 48, 3)}, r"input pixels is \[any, any, 48, 3\], not"),
        ({"shape": ("batch", 3, 32, 48)}, r"input pixels is \[any, 3, 32, 48\], not"),
        ({"shape": ("batch", 32, 3)}, r"input pixels is \[any, 32, 3\], not"),
    ],
)
def test_a_file_that_tensorrt_could_not_use_is_refused(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    """The error names the file and the reason."""
    path = write_onnx(tmp_path / "network.onnx", **change)

    with pytest.raises(BuildError, match=rf"network\.onnx:? {reason}"):
        read_interface(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The error is a sentence, not a stack trace of open()."""
    with pytest.raises(BuildError, match=r"network\.onnx: there is no such ONNX file"):
        read_interface(tmp_path / "network.onnx")


@pytest.mark.parametrize("content", [b"\xff" * 64, b"not a network"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    """The file is refused whatever protobuf makes of it."""
    path = tmp_path / "network.onnx"
    path.write_bytes(content)

    with pytest.raises(BuildError, match=r"network\.onnx cannot be read as ONNX"):
        read_interface(path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    """Protobuf reads it as an empty network."""
    path = tmp_path / "network.onnx"
    path.touch()

    with pytest.raises(BuildError, match=r"network\.onnx takes nothing, not one input named pixels"):
        read_interface(path)
