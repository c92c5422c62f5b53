"""Builds a checked plan from an ONNX file."""

from pathlib import Path

from rich.console import Console

from pspsearch_build.atomic_file import replacing
from pspsearch_build.engine.onnx_interface import read_interface
from pspsearch_build.engine.phase_bars import PhaseBars
from pspsearch_build.engine.plan import check_plan
from pspsearch_build.engine.settings import EngineSettings
from pspsearch_build.errors import BuildError


def build_engine(onnx: Path, plan: Path, settings: EngineSettings, *, overwrite: bool = False) -> None:
    """Writes the TensorRT plan of an FP16 file, atomically, once it answers like the ONNX file.

    Takes minutes, and shows progress bars if stderr is a terminal. Raises BuildError if the input is unsuitable or
    TensorRT fails, and ParityError if the plan answers differently. Either way it leaves nothing behind.
    """
    if plan.exists() and not overwrite:
        raise BuildError(f"{plan} is there already, and is replaced only by force")
    interface = read_interface(onnx)
    from pspsearch_build.engine.compiler import compile_plan

    with replacing(plan) as temporary:
        with PhaseBars(Console(stderr=True)) as bars:
            temporary.write_bytes(compile_plan(onnx, settings, bars))
        check_plan(temporary, onnx, interface, settings.batches)
