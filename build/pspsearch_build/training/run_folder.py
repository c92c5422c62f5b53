"""What a run leaves on disk and continues from."""

import json
import pickle
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from pspsearch_build.atomic_file import replacing
from pspsearch_build.errors import BuildError

BEST = "best.safetensors"
BLEND = "blend"
"""The figure that says how far a network lies between the start (0) and its step (1)."""
_CHECKPOINT, _FIGURES, _SETTINGS = "last.pt", "figures.jsonl", "settings.toml"


class RunFolder:
    """The folder of one run: its settings, its figures, its last checkpoint and its best network."""

    def __init__(self, path: Path) -> None:
        """Makes the folder if it is missing. Raises BuildError if that is impossible."""
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BuildError(f"the run's folder {path} cannot be made: {error.strerror}") from error

    @property
    def best(self) -> Path:
        """The file of the best network so far."""
        return self.path / BEST

    @property
    def start(self) -> Path:
        """The file of the network that the run began with."""
        return self.path / "start.safetensors"

    @property
    def logs(self) -> Path:
        """The folder of TensorBoard's logs."""
        return self.path / "tensorboard"

    def keep_settings(self, text: str) -> None:
        """Keeps the settings as they were written, for people to read."""
        self._write(_SETTINGS, text.encode())

    def load(self) -> dict[str, Any] | None:
        """The last checkpoint; None if the run has none yet. Raises BuildError if it is damaged."""
        path = self.path / _CHECKPOINT
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            return None
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise BuildError(f"{path} cannot be read as a checkpoint: {error}") from error

    def save(self, state: Mapping[str, Any], figures: Mapping[str, float]) -> None:
        """Saves a checkpoint and the figures of its step or of a blend with it, atomically; durable when it returns.

        Raises BuildError if there is no room; the previous checkpoint then still exists.
        """
        buffer = BytesIO()  # written in one piece, because torch's own writer hides the reason when the disk is full
        torch.save(dict(state), buffer)
        earlier = [line for line in self._figures() if _place(line) < _place(figures)]
        self._write(_CHECKPOINT, buffer.getvalue())
        self._write(_FIGURES, "".join(json.dumps(line) + "\n" for line in [*earlier, figures]).encode())

    def _figures(self) -> list[dict[str, float]]:
        path = self.path / _FIGURES
        return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []

    def _write(self, name: str, content: bytes) -> None:
        with replacing(self.path / name) as temporary:
            temporary.write_bytes(content)


def _place(figures: Mapping[str, float]) -> tuple[float, float]:
    """The order of the lines: a step's own line comes before its blends."""
    return figures["step"], figures.get(BLEND, 0.0)
