"""The comparison itself: what counts as the same, and what does not."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

from pspsearch.model.contract import DESCRIPTOR, InputShape
from pspsearch_build.cli.export import export
from pspsearch_build.cli.parity import parity, read_pixels
from pspsearch_build.errors import BuildError, ParityError
from pspsearch_build.forms import Form, Outputs, Pixels, torch_form
from pspsearch_build.network.checkpoint import Checkpoint
from pspsearch_build.network.onnx_facts import Precision, read_onnx_facts
from pspsearch_build.parity import Row, compare_forms, compare_rankings, count_runs, score_tolerance
from tests.build.crops import cut_crops
from tests.build.small_networks import SMALL, small_checkpoint

DIMENSION = 256


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def _photographs(count: int = 400) -> Pixels:
    """One pixel each, which holds the photograph's number: the forms below look their answers up."""
    numbers = np.arange(count)
    return np.stack([numbers // 256, numbers % 256, 0 * numbers], axis=1).astype(np.uint8).reshape(count, 1, 1, 3)


def _table_form(name: str, descriptors: NDArray[np.float32], *, half: bool = True) -> Form:
    def run(pixels: Pixels) -> Outputs:
        return {DESCRIPTOR: descriptors[pixels[:, 0, 0, 0] * 256 + pixels[:, 0, 0, 1].astype(int)]}

    return Form(name, half=half, run=run)


def _reference(count: int = 400) -> NDArray[np.float32]:
    """Clusters of 20, so that a top-10 means something."""
    rng = np.random.default_rng(0)
    centres = np.repeat(rng.normal(size=(count // 20, DIMENSION)), 20, axis=0)
    return _unit(centres + rng.normal(size=(count, DIMENSION)))


def _turned(descriptors: NDArray[np.float32], cosine: float) -> NDArray[np.float32]:
    """Moves each descriptor in a random direction until it has the given cosine to the original."""
    noise = np.random.default_rng(1).normal(size=descriptors.shape)
    noise -= (noise * descriptors).sum(axis=1, keepdims=True) * descriptors
    sideways = noise / np.linalg.norm(noise, axis=1, keepdims=True)
    return _unit(cosine * descriptors + np.sqrt(1 - cosine**2) * sideways)


def _compare(other: NDArray[np.float32], *, half: bool = True) -> Row:
    reference = _reference()
    rows = compare_forms(_table_form("reference", reference), [_table_form("other", other, half=half)], _photographs())
    assert [(row.form, row.batch) for row in rows] == [("reference", 8), ("other", 1), ("other", 8)]
    return rows[1]


def test_equal_descriptors_pass() -> None:
    """The cosine is 1 and the hits are exactly the same."""
    row = _compare(_reference())

    assert row.passed
    assert row.ranking is not None
    assert row.ranking.strict_share == row.ranking.same_share == row.ranking.mean_overlap == 1


def test_a_form_well_within_the_bound_passes_though_ties_fall_otherwise() -> None:
    """At cosine 0.9997 some tenth hits swap with their neighbours, which is no failure."""
    row = _compare(_turned(_reference(), 0.9997))

    assert row.passed
    assert row.ranking is not None
    assert row.ranking.strict_share < 0.99 <= row.ranking.same_share


def test_a_form_beyond_the_cosine_bound_fails() -> None:
    """0.998 is too far for half precision, and 0.9997 is too far for FP32."""
    assert not _compare(_turned(_reference(), 0.998)).passed
    assert not _compare(_turned(_reference(), 0.9997), half=False).passed


def test_a_single_wrong_descriptor_fails() -> None:
    """The least cosine is judged, not the mean."""
    descriptors = _reference().copy()
    descriptors[7] = descriptors[8]

    row = _compare(descriptors)

    assert not row.passed
    assert row.mean_cosine > 0.998


def test_nan_fails() -> None:
    """Comparisons with NaN are false, and NaN must still fail."""
    descriptors = _reference().copy()
    descriptors[7] = np.nan

    assert not _compare(descriptors).passed


def test_a_wrong_hit_counts_only_beyond_the_tolerance() -> None:
    """Ten hits score from 0.90 down to 0.81. An eleventh just below the tenth may take its place."""
    reference = np.full((1, 40), 0.1, np.float32)
    reference[0, :11] = [*(0.90 - 0.01 * np.arange(10)), 0.805]
    swapped = reference.copy()
    swapped[0, [9, 10]] = swapped[0, [10, 9]]

    near = compare_rankings(reference, swapped, tolerance=0.006)
    far = compare_rankings(reference, swapped, tolerance=0.004)

    assert (near.same_share, far.same_share) == (1, 0)
    assert near.strict_share == far.strict_share == 0
    assert near.mean_overlap == pytest.approx(0.9)


def test_a_missing_best_hit_is_no_tie() -> None:
    """All ten hits score near the tenth, but the best one is not among them."""
    reference = np.full((1, 40), 0.5, np.float32)
    reference[0, 0] = 0.9
    scores = reference.copy()
    scores[0, 0] = 0.0

    ranking = compare_rankings(reference, scores, tolerance=0.01)

    assert ranking.same_share == 0


@pytest.mark.parametrize("dimension", [16, 128, 512])
def test_the_tolerance_is_two_deviations_of_a_difference_of_scores(dimension: int) -> None:
    """This is measured on orthogonal descriptors, each moved to cosine 0.999 in its own direction."""
    random = np.random.default_rng(0)
    moves = random.normal(size=(2000, 3, dimension))
    moves *= math.sqrt(2 - 2 * 0.999) / np.linalg.norm(moves, axis=2, keepdims=True)
    query, one, other = np.swapaxes(np.eye(3, dimension) + moves, 0, 1)

    differences = (query * (one - other)).sum(axis=1)

    assert score_tolerance(0.999, dimension) == pytest.approx(2 * differences.std(), rel=0.1)


def test_another_network_fails() -> None:
    """Two networks of one spec with different seeds answer differently, and every output is checked."""
    first, second = small_checkpoint(0).network, small_checkpoint(1).network
    described: list[int] = []

    rows = compare_forms(torch_form(first), [torch_form(second)], cut_crops(30, SMALL.input), described.append)

    assert [row.output for row in rows] == ["descriptor", "cells"] * 3
    assert [row.passed for row in rows] == [True, True, False, False, False, False]
    assert sum(described) == 30 * count_runs(1)


def test_too_few_photographs_are_refused() -> None:
    """A top-10 out of eleven shows nothing."""
    with pytest.raises(ParityError, match="at least 30 photographs, not 12"):
        compare_forms(_table_form("reference", _reference()), [], _photographs(12))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 40 JPEG files and one file of another kind."""
    folder = tmp_path_factory.mktemp("photographs")
    (folder / "notes.txt").write_text("not a photograph")
    for number, crop in enumerate(cut_crops(40, InputShape(120, 150))):
        Image.fromarray(crop).save(folder / f"{number:02}.jpg", quality=90)
    return folder


def test_photographs_are_spread_over_the_folder(photographs: Path) -> None:
    """A limit takes every n-th of the sorted names, none twice."""
    shape = InputShape(32, 32)

    everything, some = read_pixels(photographs, shape, limit=300), read_pixels(photographs, shape, limit=10)

    assert everything.shape == (40, 32, 32, 3)
    assert np.array_equal(some, everything[::4])


def test_a_damaged_photograph_is_named(tmp_path: Path) -> None:
    """A folder without photographs is named, too."""
    with pytest.raises(BuildError, match="holds no photographs"):
        read_pixels(tmp_path, InputShape(32, 32), limit=3)

    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff junk")
    with pytest.raises(BuildError, match=r"broken\.jpg cannot be used"):
        read_pixels(tmp_path, InputShape(32, 32), limit=3)


def test_the_commands_export_and_compare(photographs: Path, tmp_path: Path) -> None:
    """They go from a checkpoint to a file with its facts, and to rows that all pass."""
    runner = CliRunner()
    small_checkpoint().save(tmp_path / "small.safetensors")
    source = ["--checkpoint", str(tmp_path / "small.safetensors")]

    exported = runner.invoke(export, [*source, "--output", str(tmp_path / "x.onnx")], catch_exceptions=False)
    compared = runner.invoke(parity, [*source, "--images", str(photographs), "--json"], catch_exceptions=False)
    table = runner.invoke(parity, [*source, "--images", str(photographs)], catch_exceptions=False)

    assert exported.stdout.startswith(f"wrote {tmp_path / 'x.onnx'}: mobilenet_v2 at stride 16, 80x96 px to 128")
    facts = read_onnx_facts(tmp_path / "x.onnx")
    assert (facts.precision, facts.provenance) == (Precision.FP16, small_checkpoint().provenance)
    rows = [json.loads(line) for line in compared.stdout.splitlines()]
    assert compared.exit_code == 0
    assert {(row["form"].split()[0], row["batch"]) for row in rows} == {
        ("torch", 8), ("onnxruntime", 1), ("onnxruntime", 8), ("openvino", 1), ("openvino", 8),
    }  # fmt: skip
    assert all(row["passed"] for row in rows)
    assert table.exit_code == 0
    assert "all 14 comparisons are within the bounds" in table.stdout


def test_a_network_out_of_bounds_is_an_error(photographs: Path, tmp_path: Path) -> None:
    """Weights that overflow FP16 are noticed, and the command fails with one sentence."""
    checkpoint = Checkpoint.load(_saved(tmp_path))
    checkpoint.network.trunk.get_parameter("fusion.bottleneck.1.weight").data.mul_(1e7)
    checkpoint.save(tmp_path / "loud.safetensors")

    result = CliRunner().invoke(
        parity, ["--checkpoint", str(tmp_path / "loud.safetensors"), "--images", str(photographs), "--limit", "30"]
    )

    assert isinstance(result.exception, ParityError)
    assert "out of bounds" in str(result.exception)


def _saved(folder: Path) -> Path:
    small_checkpoint().save(folder / "small.safetensors")
    return folder / "small.safetensors"


def test_untrained_networks_come_from_options(tmp_path: Path) -> None:
    """The options choose the spec, and the file says that nothing was trained."""
    options = "--untrained --seed 4 --size 64 --dimension 128 --fusion dilated --head gem --fit crop --precision fp32"
    paths = ["--output", str(tmp_path / "x.onnx"), "--save-checkpoint", str(tmp_path / "x.safetensors")]

    result = CliRunner().invoke(export, [*options.split(), *paths], catch_exceptions=False)

    facts = read_onnx_facts(tmp_path / "x.onnx")
    assert result.exit_code == 0
    assert (facts.spec.input.height_px, facts.spec.dimension, facts.spec.fusion) == (64, 128, "dilated")
    assert "none: a stand-in, random by seed 4" in facts.provenance["training"]
    assert Checkpoint.load(tmp_path / "x.safetensors").network.spec == facts.spec


def test_a_command_needs_one_source_of_a_network(tmp_path: Path) -> None:
    """Neither zero nor two sources are accepted."""
    for given in ([], ["--untrained", "--checkpoint", "x"]):
        result = CliRunner().invoke(export, [*given, "--output", str(tmp_path / "x.onnx")])

        assert result.exit_code == 2
        assert "either --checkpoint or --untrained" in result.stderr
