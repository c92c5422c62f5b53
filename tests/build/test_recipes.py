"""What the model card says of how the network was chosen, held against the recipes."""

import importlib.util
import tomllib
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "build" / "recipes"


def read(name: str) -> dict[str, Any]:
    """One of the recipes."""
    return tomllib.loads((RECIPES / f"{name}.toml").read_text())


def test_the_card_says_that_the_architecture_was_tried_on_all_classes() -> None:
    """The run on half of the classes has the network that runs on all of them chose; the ablation leaves none out."""
    spec = importlib.util.spec_from_file_location("ablation", RECIPES / "ablation.py")
    assert spec is not None
    assert spec.loader is not None
    ablation: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(ablation)

    (tried,) = msgspec.to_builtins(ablation.Ablation(Path("lists"), Path("out"))._settings("default", 0))["source"]
    shipped, half = read("default_model"), read("half_of_the_classes")

    assert tried["classes"] == shipped["source"][0].get("classes", "all") == "all"
    assert half["source"][0]["classes"] == "odd"
    assert half["network"] == shipped["network"]
    card = " ".join((ROOT / "docs" / "model-card.md").read_text().split())
    assert "**The architecture was tried on all classes.**" in card
    assert "which changed nothing, learned all 81" in card
