"""Imports the programs among the recipes, which are not a package."""

import importlib.util
from pathlib import Path
from typing import Any

RECIPES = Path(__file__).parents[2] / "build" / "recipes"


def load(name: str) -> Any:
    """The recipe's module."""
    spec = importlib.util.spec_from_file_location(name, RECIPES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    return program
