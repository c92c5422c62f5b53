"""Building a plan as far as possible without TensorRT, and the check of a plan's answers."""

import io
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from rich.console import Console

from pspsearch_build.cli.engine import engine
from pspsearch_build.engine import EngineSettings, build_engine, run_plan
from pspsearch_build.engine.phase_bars import PhaseBars
from pspsearch_build.engine.plan import require_parity
from pspsearch_build.errors import BuildError, ParityError
from tests.build.small_onnx import write_onnx

_CONTROL = r"\x1b\[[0-9;?]*[A-Za-z]|\r"


@pytest.fixture
def without_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulates a machine where TensorRT was never installed."""
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    for module in ("bindings", "compiler", "runner"):
        monkeypatch.delitem(sys.modules, f"pspsearch_build.engine.{module}", raising=False)


def _descriptors(*, seed: int, batch: int = 4) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(batch, 64)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_a_plan_that_is_there_is_kept(tmp_path: Path) -> None:
    """A plan took minutes to build and may be in service."""
    plan = tmp_path / "model.plan"
    plan.write_bytes(b"precious")

    with pytest.raises(BuildError, match=r"model\.plan is there already, and is replaced only by force"):
        build_engine(write_onnx(tmp_path / "network.onnx"), plan, EngineSettings())
    assert plan.read_bytes() == b"precious"


@pytest.mark.usefixtures("without_tensorrt")
def test_without_tensorrt_a_build_says_where_to_run_it(tmp_path: Path) -> None:
    """Even with force, the existing plan stays unchanged."""
    plan = tmp_path / "model.plan"
    plan.write_bytes(b"precious")

    with pytest.raises(BuildError, match=r"TensorRT is not installed here .*: run this in NVIDIA's TensorRT container"):
        build_engine(write_onnx(tmp_path / "network.onnx"), plan, EngineSettings(), overwrite=True)
    assert plan.read_bytes() == b"precious"


@pytest.mark.usefixtures("without_tensorrt")
def test_without_tensorrt_a_plan_is_not_run(tmp_path: Path) -> None:
    """The error is the same as for building."""
    with pytest.raises(BuildError, match="TensorRT is not installed here"):
        run_plan(tmp_path / "model.plan", np.zeros((1, 32, 32, 3), np.uint8))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--min-batch", "4", "--opt-batch", "2"], "batch sizes min 4, opt 2, max 32 must be 1 <= min <= opt <= max"),
        (["--workspace-mib", "0"], "a workspace of 0 MiB is too small"),
        (["--optimization-level", "9"], "optimisation level 9 is not between 0 and 5"),
        ([], "missing.onnx: there is no such ONNX file"),
    ],
)
def test_the_command_passes_its_options_on(tmp_path: Path, options: list[str], reason: str) -> None:
    """Each option reaches the setting with its name."""
    arguments = [str(tmp_path / "missing.onnx"), "--output", str(tmp_path / "model.plan"), *options]

    result = CliRunner().invoke(engine, arguments)

    assert isinstance(result.exception, BuildError)
    assert reason in str(result.exception)


def test_the_command_replaces_a_plan_only_by_force(tmp_path: Path) -> None:
    """With --force, the next error is reported instead."""
    plan = tmp_path / "model.plan"
    plan.touch()
    arguments = [str(tmp_path / "missing.onnx"), "--output", str(plan)]

    kept, forced = CliRunner().invoke(engine, arguments), CliRunner().invoke(engine, [*arguments, "--force"])

    assert "is there already" in str(kept.exception)
    assert "there is no such ONNX file" in str(forced.exception)


def test_a_plan_that_answers_alike_passes() -> None:
    """A little noise, as from FP16 sums in another order, leaves the cosine above 0.999."""
    expected = _descriptors(seed=0)
    noise = np.random.default_rng(1).normal(scale=1e-3, size=expected.shape).astype(np.float32)

    require_parity("a.onnx", {"descriptor": expected}, {"descriptor": expected + noise})

    assert not np.array_equal(expected, expected + noise)


def test_one_wrong_descriptor_in_a_batch_is_noticed() -> None:
    """The worst cosine counts, not the mean."""
    expected = _descriptors(seed=0)
    answers = expected.copy()
    answers[3] = answers[0]

    with pytest.raises(ParityError, match=r"a\.onnx: the plan's descriptor has cosine -?0\.\d+ to the ONNX file's"):
        require_parity("a.onnx", {"descriptor": expected}, {"descriptor": answers})


def test_wrong_cells_are_noticed() -> None:
    """Every output counts, and every cell in it."""
    expected = {"descriptor": _descriptors(seed=0, batch=1), "cells": _descriptors(seed=1, batch=50)[None]}
    answers = {"descriptor": expected["descriptor"], "cells": expected["cells"][:, ::-1]}

    with pytest.raises(ParityError, match="the plan's cells has cosine"):
        require_parity("a.onnx", expected, answers)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_numbers_that_are_none_are_noticed(broken: float) -> None:
    """NaN compares false with everything, and must still fail."""
    expected = _descriptors(seed=0)
    answers = expected.copy()
    answers[2, 5] = broken

    with pytest.raises(ParityError, match="cosine nan"):
        require_parity("a.onnx", {"descriptor": expected}, {"descriptor": answers})


@pytest.mark.parametrize("answers", [{}, {"descriptor": _descriptors(seed=0, batch=3)}])
def test_a_missing_output_is_noticed(answers: dict[str, NDArray[np.float32]]) -> None:
    """An output with another batch size counts as missing, too."""
    with pytest.raises(ParityError, match=r"the plan has no output descriptor of shape \(4, 64\)"):
        require_parity("a.onnx", {"descriptor": _descriptors(seed=0)}, answers)


def _terminal(*, is_terminal: bool = True) -> tuple[io.StringIO, Console]:
    screen = io.StringIO()
    return screen, Console(file=screen, force_terminal=is_terminal, color_system=None, width=100)


def test_phases_are_shown_under_their_parents() -> None:
    """TensorRT reports a tree of phases, and the numbers of completed steps, from 0."""
    screen, console = _terminal()

    with PhaseBars(console) as bars:
        bars.start("Building", None, 3)
        bars.start("Timing", "Building", 10)
        bars.step("Timing", 4)

    lines = re.sub(_CONTROL, "\n", screen.getvalue()).splitlines()
    assert any(line.startswith("Building") and "0/3" in line for line in lines)
    assert any(line.startswith("  Timing") and "5/10" in line for line in lines)


def test_a_phase_goes_when_it_ends_and_may_come_back() -> None:
    """A phase's name is unique only while the phase runs."""
    screen, console = _terminal()

    bars = PhaseBars(console)
    bars.start("Timing", None, 10)
    bars.finish("Timing")
    bars.start("Timing", None, 20)
    with bars:
        bars.step("Timing", 6)

    assert "7/20" in screen.getvalue()
    assert "/10" not in screen.getvalue()


def test_phases_that_never_began_are_borne() -> None:
    """An exception would have to pass through TensorRT's own code."""
    screen, console = _terminal()

    with PhaseBars(console) as bars:
        bars.step("unknown", 1)
        bars.finish("unknown")
        bars.start("orphan", "unknown", 2)

    assert "  orphan" in screen.getvalue()


def test_nothing_is_drawn_where_there_is_no_terminal() -> None:
    """A log file should hold no bars."""
    screen, console = _terminal(is_terminal=False)

    with PhaseBars(console) as bars:
        bars.start("Building", None, 3)
        bars.step("Building", 1)

    assert screen.getvalue() == ""
