"""Explains in one sentence what went wrong inside TensorRT."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class NodeError:
    """One error from TensorRT's ONNX parser."""

    node: str
    operator: str
    reason: str

    def __str__(self) -> str:
        return f"node {self.node or '(unnamed)'} ({self.operator or 'unknown operator'}): {self.reason}"


def explain_parse_failure(onnx: Path, errors: Sequence[NodeError]) -> str:
    """Lists every error with the node that it is about."""
    return f"TensorRT cannot read {onnx}: {join_reasons(map(str, errors))}"


def explain_build_failure(onnx: Path, log: Sequence[str], workspace_mib: int) -> str:
    """Lists TensorRT's errors, and says what to do if a layer cannot run within the workspace."""
    sentence = f"TensorRT cannot build {onnx}: {join_reasons(log)}"
    if any("could not find any implementation" in line.lower() or "workspace" in line.lower() for line in log):
        sentence += f" (the workspace of {workspace_mib} MiB may be too small: raise --workspace-mib)"
    return sentence


def join_reasons(log: Iterable[str]) -> str:
    """Joins TensorRT's errors into one line."""
    return "; ".join(" ".join(line.split()) for line in log) or "it gives no reason"
