"""What went wrong inside TensorRT, in one sentence."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class NodeError:
    """One complaint of TensorRT's ONNX parser."""

    node: str
    operator: str
    reason: str

    def __str__(self) -> str:
        return f"node {self.node or '(unnamed)'} ({self.operator or 'unknown operator'}): {self.reason}"


def explain_parse_failure(onnx: Path, errors: Sequence[NodeError]) -> str:
    """Every complaint, with the node that it is about."""
    return f"TensorRT cannot read {onnx}: {join_reasons(map(str, errors))}"


def explain_build_failure(onnx: Path, log: Sequence[str], workspace_mib: int) -> str:
    """TensorRT's own errors, and what to do where a layer found no way to run within the workspace."""
    sentence = f"TensorRT cannot build {onnx}: {join_reasons(log)}"
    if any("could not find any implementation" in line.lower() or "workspace" in line.lower() for line in log):
        sentence += f" (the workspace of {workspace_mib} MiB may be too small: raise --workspace-mib)"
    return sentence


def join_reasons(log: Iterable[str]) -> str:
    """TensorRT's errors on one line."""
    return "; ".join(" ".join(line.split()) for line in log) or "it gives no reason"
