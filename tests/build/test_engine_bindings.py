"""The engine builder against TensorRT's real Python API, the only part of TensorRT that runs without a GPU."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.build.small_onnx import write_onnx
from tests.build.stub_comparison import differences
from tests.build.tensorrt_bindings import RealClass, installed_bindings, make_importable, read_classes, run_with

_STUB = Path(__file__).parents[2] / "typings" / "tensorrt" / "__init__.pyi"

_PROGRAM = """
import io
import json
from pathlib import Path

import numpy as np
import tensorrt as trt
from rich.console import Console

from pspsearch_build.engine import EngineSettings, build_engine, compiler, run_plan, runner
from pspsearch_build.engine.monitor import Monitor
from pspsearch_build.engine.phase_bars import PhaseBars
from pspsearch_build.engine.tensorrt_log import TensorRtLog
from pspsearch_build.errors import BuildError

log, screen = TensorRtLog(), io.StringIO()
log.log(trt.ILogger.Severity.ERROR, "bad")
log.log(trt.ILogger.Severity.WARNING, "strange")

with PhaseBars(Console(file=screen, force_terminal=True, color_system=None, width=80)) as bars:
    monitor = Monitor(bars)
    monitor.phase_start("Building", None, 4)
    goes_on = monitor.step_complete("Building", 1)

def interrupt(*_):
    raise KeyboardInterrupt

def complain(attempt, *arguments):
    try:
        attempt(*arguments)
    except BuildError as error:
        return str(error)

bars.step = interrupt
onnx, plan = Path({onnx!r}), Path({plan!r})
print(json.dumps({{
    "version": trt.__version__,
    "flags": compiler._network_flags(),
    "errors": log.errors,
    "shown": screen.getvalue(),
    "goes_on": goes_on,
    "stops": not monitor.step_complete("Building", 2) and monitor.interrupted,
    "callbacks": [isinstance(log, trt.ILogger), isinstance(monitor, trt.IProgressMonitor)],
    "dims": (lambda dims: [dims[axis] for axis in range(len(dims))])(trt.Dims([-1, 224, 224, 3])),
    "complaints": [
        complain(build_engine, onnx, plan, EngineSettings()),
        complain(run_plan, plan, np.zeros((1, 32, 48, 3), np.uint8)),
    ],
    "left": sorted(path.name for path in onnx.parent.iterdir()),
}}))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder from which `tensorrt` can be imported."""
    bindings = installed_bindings()
    if bindings is None:
        pytest.skip("tensorrt-cu13-bindings is not installed here: whether TensorRT 11 has what we call is not proven")
    folder = tmp_path_factory.mktemp("bindings")
    make_importable(bindings, folder)
    return folder


@pytest.fixture(scope="module")
def real(copy: Path) -> dict[str, RealClass]:
    """The bindings' classes."""
    return read_classes(copy)


@pytest.fixture(scope="module")
def seen(copy: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the builder's own modules do with the bindings but without a GPU."""
    onnx = write_onnx(tmp_path_factory.mktemp("build") / "network.onnx")
    program = _PROGRAM.format(onnx=str(onnx), plan=str(onnx.with_name("model.plan")))
    return json.loads(run_with(copy, program))


def test_all_that_is_used_of_tensorrt_is_there(real: dict[str, RealClass]) -> None:
    """The stub, against which pyright checks the builder, claims nothing that the bindings lack."""
    stub = _STUB.read_text("utf-8")

    found = differences(stub, real)

    assert found == []


@pytest.mark.parametrize(
    ("line", "difference"),
    [
        ("class BuilderFlag:\n    FP16: BuilderFlag", "BuilderFlag.FP16 is missing"),
        ("class IInt8Calibrator: ...", "IInt8Calibrator is missing"),
        (
            "class IBuilderConfig:\n    max_workspace_size: int",
            "IBuilderConfig.max_workspace_size cannot be written to",
        ),
        ("class INetworkDefinition:\n    num_inputs: int", "INetworkDefinition.num_inputs cannot be written to"),
        ("class IBuilderConfig:\n    progress_monitor: int", "IBuilderConfig.progress_monitor is IProgressMonitor"),
        ("class OnnxParser:\n    @property\n    def num_errors(self) -> str: ...", "OnnxParser.num_errors is int"),
        ("class Builder:\n    def build_engine(self) -> int: ...", "Builder.build_engine is missing"),
        (
            "class Builder:\n    def create_network(self, flag: int = 0) -> INetworkDefinition: ...",
            "Builder.create_net",
        ),
        ("class Builder:\n    def create_network(self, flags: str) -> INetworkDefinition: ...", "Builder.create_net"),
        ("class Builder:\n    def create_network(self, flags: int = 0) -> int: ...", "Builder.create_network is"),
        ("class ITimingCache:\n    def combine(self) -> bool: ...", "ITimingCache.combine is"),
        ("class ILogger:\n    class Severity:\n        FATAL: ILogger.Severity", "ILogger.Severity.FATAL is missing"),
        ("class ITensor:\n    def __buffer__(self, flags: int, /) -> memoryview: ...", "ITensor has no buffer"),
    ],
)
def test_what_tensorrt_11_does_not_have_is_noticed(real: dict[str, RealClass], line: str, difference: str) -> None:
    """The comparison notices a removed flag and a wrong argument, type or result."""
    found = differences(line, real)

    assert len(found) == 1
    assert found[0].startswith(difference)


def test_modules_and_callbacks_work_on_the_real_base_classes(seen: dict[str, Any]) -> None:
    """Everything up to the first call into TensorRT runs: imports, the log, the monitor, shapes, network flags."""
    assert seen["version"].startswith("11.")
    assert seen["flags"] == 0
    assert seen["errors"] == ["bad"]
    assert "2/4" in seen["shown"]
    assert seen["goes_on"] is True
    assert seen["stops"] is True
    assert seen["callbacks"] == [True, True]
    assert seen["dims"] == [-1, 224, 224, 3]


def test_without_a_gpu_one_sentence_says_so_and_nothing_is_left(seen: dict[str, Any]) -> None:
    """With TensorRT but no GPU, neither building nor running ends in a null pointer."""
    sentence = "this machine has no GPU that CUDA can use: a plan is built and run on the GPU it is for"

    assert seen["complaints"] == [sentence, sentence]
    assert seen["left"] == ["network.onnx"]
