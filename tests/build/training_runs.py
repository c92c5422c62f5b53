"""Small training runs: a few steps of a small network on drawn patterns."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from pspsearch_build.network.checkpoint import Checkpoint
from pspsearch_build.network.descriptor_network import DescriptorNetwork
from pspsearch_build.training.fine_tuning import Outcome, fine_tune
from pspsearch_build.training.run_folder import RunFolder
from pspsearch_build.training.settings import TrainingSettings

SMALL = {
    "backbone": "resnet18",
    "width": 32,
    "dimension": 128,
    "input": {"height_px": 32, "width_px": 32, "fit": "squash"},
}
GENTLE = {"least_area": 0.7, "erase": 0, "occlude": 0, "blur": 0, "brightness": 0.1, "contrast": 0.1, "saturation": 0.1}


def settings_of(**changes: Any) -> dict[str, Any]:
    """Settings as in a file; `optimiser` is merged into the defaults here."""
    raw: dict[str, Any] = {
        "steps": 4,
        "batch_size": 8,
        "precision": "fp32",
        "workers": 0,
        "validate_every": 2,
        "start": {"pictures": 0},
        "blends": [],
        "loss": [{"name": "normalised_softmax"}],
    }
    optimiser = {"backbone_learning_rate": 1e-3, "warm_up_steps": 2, "head_steps": 0, "average": 0.9}
    optimiser["train_statistics"] = True
    return (
        raw
        | {"network": SMALL, "optimiser": optimiser | changes.pop("optimiser", {}), "augmentation": GENTLE}
        | changes
    )


@dataclass(frozen=True)
class Run:
    """A run's folder and settings."""

    path: Path

    def go(self, told: list[dict[str, float]] | None = None, **changes: Any) -> Outcome:
        """Trains to the end, and appends every step's losses to `told`."""
        settings = msgspec.convert(settings_of(**changes), TrainingSettings)
        steps = told if told is not None else []
        return fine_tune(settings, self.folder, lambda _, figures: steps.append(dict(figures)), lambda _: None)

    @property
    def folder(self) -> RunFolder:
        """The run's folder as the code sees it."""
        return RunFolder(self.path)

    @property
    def best(self) -> DescriptorNetwork:
        """The resulting network."""
        return Checkpoint.load(self.folder.best).network

    @property
    def start(self) -> DescriptorNetwork:
        """The network that the run began with."""
        return Checkpoint.load(self.folder.start).network
