"""The file of a training run: its settings, and the sentence for every mistake."""

from pathlib import Path

import pytest

from pspsearch_build.errors import BuildError
from pspsearch_build.network.spec import NetworkSpec
from pspsearch_build.training.losses import LossName
from pspsearch_build.training.settings import Precision, read_settings

RECIPES = Path(__file__).parents[2] / "build" / "recipes"
LEAST = """
steps = 10
[[source]]
name = "products"
pictures = "products"
[[loss]]
name = "arcface"
"""


def written(tmp_path: Path, text: str) -> Path:
    """Writes a file of settings."""
    (tmp_path / "run.toml").write_text(text)
    return tmp_path / "run.toml"


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    """The current folder does not matter."""
    text = LEAST + '[start]\nweights = "w.pth"\n[[validation]]\nname = "new"\nqueries = "list.csv@val"\n'

    settings = read_settings(written(tmp_path, text))

    assert settings.source[0].pictures == str(tmp_path / "products")
    assert settings.start.weights == str(tmp_path / "w.pth")
    assert settings.validation[0].queries == str(tmp_path / "list.csv@val")
    assert settings.validation[0].gallery == ""


@pytest.mark.parametrize(
    ("floor", "placed"),
    [("average:w.pth", "average:{folder}/w.pth"), ("server:localhost:8500", "server:localhost:8500"), ("hsv", "hsv")],
)
def test_floor_is_relative_to_the_file(tmp_path: Path, floor: str, placed: str) -> None:
    """It is relative only if it is a file."""
    settings = read_settings(written(tmp_path, f'floor = "{floor}"\n{LEAST}'))

    assert settings.floor == placed.format(folder=tmp_path)


def test_words_are_no_paths(tmp_path: Path) -> None:
    """`download` and `start` stay unchanged."""
    settings = read_settings(written(tmp_path, LEAST + '[start]\nweights = "download"\n[distillation]\nweight = 2\n'))

    assert settings.start.weights == "download"
    assert settings.distillation is not None
    assert settings.distillation.teacher == "start"


def test_teachers_are_spelt_as_describers(tmp_path: Path) -> None:
    """A path in the name is relative to the file, too."""
    settings = read_settings(written(tmp_path, LEAST + '[distillation]\nteacher = "checkpoint:mine.safetensors"\n'))

    assert settings.distillation is not None
    assert settings.distillation.teacher == f"checkpoint:{tmp_path}/mine.safetensors"


def test_tables_reach_their_types(tmp_path: Path) -> None:
    """Words become the values that they name."""
    text = 'precision = "fp32"\n' + LEAST + "options = { angle_degrees = 20 }\n[network]\nwidth = 64\n"

    settings = read_settings(written(tmp_path, text))

    assert settings.precision is Precision.FP32
    assert settings.loss[0].name is LossName.ARCFACE
    assert settings.loss[0].options.angle_degrees == 20
    assert settings.spec == NetworkSpec(width=64)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("steps = ", "Invalid value"),
        ("until = 11\n" + LEAST, "until is 11, and must be at most steps, which are 10"),
        (LEAST.replace("10", "-1"), "steps is -1, and must be at least 0"),
        (LEAST.replace("10", '"ten"'), "Expected `int`, got `str` - at `$.steps`"),
        ("speed = 1\n" + LEAST, "unknown field `speed`"),
        (LEAST.replace("arcface", "arcfoce"), "Invalid enum value 'arcfoce' - at `$.loss[0].name`"),
        (LEAST + "weight = nan\n", "weight is nan, and must be above 0 - at `$.loss[0]`"),
        (LEAST + 'on = ["photos"]\n', "'photos' is none of the sources: products"),
        (LEAST + "[augmentation]\nflip = 2.0\n", "the augmentation's flip is 2.0, and must be from 0 to 1"),
        (LEAST + "[network]\nwidth = 0\n", "a fused map of 0 channels is empty"),
        (LEAST + "[network]\ncolour = 1\n", "a network spec has no field 'colour'"),
        (LEAST + '[start]\ncheckpoint = "a"\n[network]\nwidth = 8\n', "leave out the table `network`"),
        (LEAST + '[start]\ncheckpoint = "a"\nweights = "b"\n', "either from a checkpoint or from weights"),
        ("blends = [0.5, 1.0]\n" + LEAST, "blends [0.5, 1.0] hold a share that does not lie between 0 and 1"),
        (LEAST + '[[source]]\nname = "products"\npictures = "p"\n', "two sources have the same name"),
        (LEAST.partition("[[loss")[0], "nothing to learn: neither a loss, nor a distillation"),
        ("steps = 3\n", "missing required field `source`"),
    ],
)
def test_mistakes_are_sentences(text: str, sentence: str, tmp_path: Path) -> None:
    """Each names the file and the mistake in it."""
    with pytest.raises(BuildError) as raised:
        read_settings(written(tmp_path, text))

    assert sentence in str(raised.value)
    assert str(tmp_path / "run.toml") in str(raised.value)
    assert "\n" not in str(raised.value)


def test_missing_file_is_a_sentence(tmp_path: Path) -> None:
    """The error names it."""
    with pytest.raises(BuildError, match=r"none\.toml cannot be read: No such file"):
        read_settings(tmp_path / "none.toml")


def test_manuals_example_can_be_read(tmp_path: Path) -> None:
    """It is a whole run."""
    example = (RECIPES.parents[1] / "docs/training.md").read_text().partition("```toml\n")[2].partition("```")[0]

    assert read_settings(written(tmp_path, example)).distillation is not None


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_recipes_can_be_read(recipe: Path) -> None:
    """They are those in `build/recipes`."""
    assert read_settings(recipe).steps > 0
