"""The choices for building a plan, and what follows from them, decided without TensorRT."""

from dataclasses import dataclass, field
from pathlib import Path

from pspsearch_build.errors import BuildError

Shape = tuple[int, ...]

_OLDEST_MAJOR = 10
_HIGHEST_LEVEL = 5


@dataclass(frozen=True, slots=True)
class Batches:
    """The batch sizes that a plan takes, and the one that it is tuned for."""

    min: int = 1
    opt: int = 8
    max: int = 32

    def __post_init__(self) -> None:
        if not 1 <= self.min <= self.opt <= self.max:
            raise BuildError(
                f"batch sizes min {self.min}, opt {self.opt}, max {self.max} must be 1 <= min <= opt <= max"
            )


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How a plan is built. Either kind of compatibility costs speed."""

    batches: Batches = field(default_factory=Batches)
    workspace_mib: int = 2048
    """Device memory that one layer may use for intermediate results."""
    optimization_level: int = 3
    """From 0, which builds fastest, to 5, which searches longest for the fastest plan."""
    version_compatible: bool = False
    """Whether later TensorRT versions may run the plan, too."""
    hardware_compatible: bool = False
    """Whether any GPU from Ampere on may run the plan, too."""
    timing_cache: Path | None = None
    """Measurements of earlier builds: read if the file exists, written after a build."""

    def __post_init__(self) -> None:
        if self.workspace_mib < 1:
            raise BuildError(f"a workspace of {self.workspace_mib} MiB is too small: at least 1 MiB")
        if not 0 <= self.optimization_level <= _HIGHEST_LEVEL:
            raise BuildError(f"optimisation level {self.optimization_level} is not between 0 and {_HIGHEST_LEVEL}")


def needs_strong_typing_flag(version: str) -> bool:
    """Whether this TensorRT must be told that the file decides the precision. Raises BuildError if it is too old.

    TensorRT 11 and later know no other way, and deprecate the flag.
    """
    major = int(version.partition(".")[0])
    if major < _OLDEST_MAJOR:
        raise BuildError(f"TensorRT {version} is too old: {_OLDEST_MAJOR} or 11 is needed")
    return major == _OLDEST_MAJOR


def profile_shapes(shape: Shape, batches: Batches) -> tuple[Shape, Shape, Shape]:
    """The smallest, the usual and the largest input, for a network's input `shape` that begins with -1, any batch."""
    batch, *rest = shape
    assert batch == -1, f"an input of {shape} has a fixed batch"
    assert -1 not in rest, f"an input of {shape} has no fixed size"
    return (batches.min, *rest), (batches.opt, *rest), (batches.max, *rest)
