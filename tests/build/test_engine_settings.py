"""What follows from the choices for a plan."""

from pathlib import Path

import pytest

from pspsearch_build.engine.diagnosis import NodeError, explain_build_failure, explain_parse_failure
from pspsearch_build.engine.settings import Batches, EngineSettings, needs_strong_typing_flag, profile_shapes
from pspsearch_build.errors import BuildError


def test_a_profile_spans_the_batches_at_the_network_size() -> None:
    """Only the batch varies; height, width and colours are the network's."""
    shapes = profile_shapes((-1, 224, 192, 3), Batches(1, 8, 32))

    assert shapes == ((1, 224, 192, 3), (8, 224, 192, 3), (32, 224, 192, 3))


@pytest.mark.parametrize("sizes", [(0, 1, 1), (2, 1, 4), (1, 8, 4), (-1, 1, 1)])
def test_batches_out_of_order_are_refused(sizes: tuple[int, int, int]) -> None:
    """1 <= min <= opt <= max."""
    with pytest.raises(BuildError, match=r"must be 1 <= min <= opt <= max"):
        Batches(*sizes)


@pytest.mark.parametrize(
    ("version", "needed"),
    [("10.0.1", True), ("10.9.0.34", True), ("10.16.1.11", True), ("11.0.0", False), ("11.4.0.106", False)],
)
def test_only_tensorrt_10_has_to_be_told_to_type_strongly(version: str, needed: bool) -> None:
    """TensorRT 11 always types strongly, and deprecates the flag."""
    assert needs_strong_typing_flag(version) is needed


def test_an_old_tensorrt_is_refused() -> None:
    """TensorRT 8 and 9 would choose the precision themselves."""
    with pytest.raises(BuildError, match=r"TensorRT 8\.6\.1 is too old: 10 or 11 is needed"):
        needs_strong_typing_flag("8.6.1")


def test_a_workspace_without_memory_is_refused() -> None:
    """TensorRT would only say later that no layer can run."""
    with pytest.raises(BuildError, match=r"a workspace of 0 MiB is too small: at least 1 MiB"):
        EngineSettings(workspace_mib=0)


@pytest.mark.parametrize("level", [-1, 6])
def test_a_level_that_does_not_exist_is_refused(level: int) -> None:
    """TensorRT would silently treat 6 as 5."""
    with pytest.raises(BuildError, match=f"optimisation level {level} is not between 0 and 5"):
        EngineSettings(optimization_level=level)


def test_every_parse_error_names_its_node() -> None:
    """The person who exported the file must find the node."""
    errors = [NodeError("/head/Pow", "Pow", "no such type\n"), NodeError("", "", "odd")]

    sentence = explain_parse_failure(Path("network.onnx"), errors)

    assert sentence == (
        "TensorRT cannot read network.onnx: node /head/Pow (Pow): no such type; node (unnamed) (unknown operator): odd"
    )


def test_a_layer_that_finds_no_room_points_to_the_workspace() -> None:
    """TensorRT's own message does not name the option that helps."""
    log = ["Error Code 10: Internal Error (Could not find any implementation for node conv1.)"]

    sentence = explain_build_failure(Path("network.onnx"), log, workspace_mib=4)

    assert sentence.startswith("TensorRT cannot build network.onnx: Error Code 10")
    assert sentence.endswith("(the workspace of 4 MiB may be too small: raise --workspace-mib)")


def test_another_failure_does_not_blame_the_workspace() -> None:
    """Advice that does not fit costs time."""
    sentence = explain_build_failure(Path("network.onnx"), ["CUDA out of memory"], workspace_mib=2048)

    assert sentence == "TensorRT cannot build network.onnx: CUDA out of memory"
