"""Where bases live, and how much memory they may take there."""

from dataclasses import dataclass, replace
from enum import StrEnum


class Device(StrEnum):
    """Where searches run."""

    CPU = "cpu"
    GPU = "gpu"


@dataclass(frozen=True, slots=True)
class IndexMemory:
    """How much memory one base may take."""

    cpu_bytes: int
    """Does not count the matrix, which is in files."""
    gpu_bytes: int | None = None
    """None if there is no GPU, or it must not be used."""

    @property
    def device(self) -> Device:
        """Where bases live if they fit there."""
        return Device.CPU if self.gpu_bytes is None else Device.GPU

    @property
    def without_gpu(self) -> "IndexMemory":
        """The memory that is left if the GPU fails."""
        return replace(self, gpu_bytes=None)
