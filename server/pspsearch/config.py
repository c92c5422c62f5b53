"""The settings, frozen and grouped; `cli` builds them once and nothing else reads the environment."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class BundledTritonSettings:
    """How the Triton child is started."""

    repository: Path
    """The model repository that it serves."""
    port: int = 0
    """Its gRPC port on 127.0.0.1; 0 takes a free one."""
    start_timeout_s: float = 60.0
    """How long it may take to load its models and answer."""
    stop_timeout_s: float = 5.0
    """How long it may take to finish what it is doing; then it is killed."""
    restart_delay_s: float = 0.1
    """The first pause before a dead child is started again; it doubles up to `max_restart_delay_s`."""
    max_restart_delay_s: float = 5.0
