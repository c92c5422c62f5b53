"""What the model card says about how the network was chosen, compared with the recipes."""

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import torch

from pspsearch_build.network.checkpoint import Checkpoint
from pspsearch_build.training.settings import TrainingSettings
from tests.build.recipes import RECIPES, load
from tests.build.training_pictures import draw_patterns
from tests.build.training_runs import settings_of

ROOT = Path(__file__).parents[2]


def read(name: str) -> dict[str, Any]:
    """One recipe's settings."""
    return tomllib.loads((RECIPES / f"{name}.toml").read_text())


def test_the_shipped_model_is_a_mean_of_runs_from_one_start(tmp_path: Path) -> None:
    """The runs differ only in their seed, and each ends where the recipe says, whatever its validations say."""
    pictures = str(draw_patterns(tmp_path / "patterns", 4, range(6)))
    told = settings_of(source=[{"name": "patterns", "pictures": pictures}], steps=6, until=2, floor="hsv")
    told["validation"] = [{"name": "patterns", "queries": pictures}]

    model = load("default_model").train(msgspec.convert(told, TrainingSettings), tmp_path)

    runs = [tmp_path / f"seed{seed}" for seed in range(3)]
    starts = [Checkpoint.load(run / "start.safetensors").network.state_dict() for run in runs]
    ends = [Checkpoint.load(run / "best.safetensors") for run in runs]
    assert all(torch.equal(starts[0][name], start[name]) for start in starts for name in start)
    assert [one.provenance["step"] for one in ends] == ["2"] * 3
    weights = [one.network.head.projection.weight for one in ends]
    assert not torch.equal(weights[0], weights[1])
    torch.testing.assert_close(model.network.head.projection.weight, sum(weights) / 3, atol=1e-6, rtol=2**-8)
    assert model.provenance["mean"] == "of 3 networks that were trained from one start"


def test_the_card_says_that_the_architecture_was_tried_on_all_classes() -> None:
    """The run on half of the classes has the network that runs on all classes chose; the ablation omits no class."""
    ablation = load("ablation")

    (tried,) = msgspec.to_builtins(ablation.Ablation(Path("lists"), Path("out"))._settings("default", 0))["source"]
    shipped, half = read("default_model"), read("half_of_the_classes")

    assert tried["classes"] == shipped["source"][0].get("classes", "all") == "all"
    assert half["source"][0]["classes"] == "odd"
    assert half["network"] == shipped["network"]
    card = " ".join((ROOT / "docs" / "model-card.md").read_text().split())
    assert "**The architecture was tried on all classes.**" in card
    assert "which changed nothing, learned all 81" in card
