"""The stages around fine-tuning, each alone, as on the command line."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pspsearch_build.cli.train import train
from pspsearch_build.data.pictures import Picture, PictureSet, read_pictures
from pspsearch_build.errors import BuildError
from pspsearch_build.network.checkpoint import Checkpoint
from pspsearch_build.network.descriptor_network import DescriptorNetwork, build_network
from pspsearch_build.training.blending import average, blend
from pspsearch_build.training.classifier import Classifier
from pspsearch_build.training.grouping import group_classes
from pspsearch_build.training.rewhitening import rewhiten
from pspsearch_build.training.schedule import rate_at
from tests.build.small_networks import SMALL, small_checkpoint

COLOURS = {
    "brick": ("red", "blue"),
    "fire": ("red", "yellow"),
    "grass": ("lime", "blue"),
    "moss": ("lime", "magenta"),
}
"""The main and the other colour of each class."""


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    """Two reds and two greens, with six pictures of each class."""
    for label, (most, rest) in COLOURS.items():
        (tmp_path / "colours" / label).mkdir(parents=True)
        for number in range(6):
            picture = Image.new("RGB", (32, 32), most)
            picture.paste(rest, (0, 0, 32, 4 + number))
            picture.save(tmp_path / "colours" / label / f"{number}.png")
    return tmp_path / "colours"


def run(*arguments: object) -> str:
    """What the command prints; its errors are raised."""
    result = CliRunner().invoke(train, [str(one) for one in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def describe(network: DescriptorNetwork, pixels: torch.Tensor) -> torch.Tensor:
    """The network's descriptors."""
    with torch.inference_mode():
        return network(pixels)[0]


def some_pixels(count: int = 4) -> torch.Tensor:
    """Noise in the size that SMALL takes."""
    shape = (count, SMALL.input.height_px, SMALL.input.width_px, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_look_alikes_are_grouped(colours: Path, tmp_path: Path) -> None:
    """Reds are grouped with reds and greens with greens, in a list that names the same pictures."""
    said = run("group-classes", "hsv", colours, "--groups", 2, "--out", tmp_path / "groups.csv")

    grouped = read_pictures(str(tmp_path / "groups.csv"))
    assert list(grouped.labels) == ["brick+fire", "grass+moss"]
    assert said.split() == list(grouped.labels)
    assert {one.path.resolve() for one in grouped.pictures} == set(colours.rglob("*.png"))
    assert all(one.path.parent.name in one.label for one in grouped.pictures)


@pytest.mark.parametrize("groups", [1, 4])
def test_groups_are_fewer_than_classes(groups: int, colours: Path) -> None:
    """There must be at least two groups, and fewer than classes."""
    with pytest.raises(BuildError, match=f"4 classes make from 2 to 3 groups, not {groups}"):
        run("group-classes", "hsv", colours, "--groups", groups, "--out", "never.csv")


def test_groups_cover_every_class_once() -> None:
    """Also for random classes, each is in one group, and a group's name lists its classes."""
    random = np.random.default_rng(0)
    pictures = PictureSet("drawn", tuple(Picture(Path(f"{number}"), f"c{number % 9}") for number in range(45)))

    grouped = group_classes(pictures, random.normal(size=(45, 8)).astype(np.float32), 4)

    assert len(grouped.labels) == 4
    assert sorted("+".join(grouped.labels).split("+")) == sorted(pictures.labels)


def test_softmax_layer_names_classes(colours: Path, tmp_path: Path) -> None:
    """It says how often it is right, and answers the same when read from its file."""
    said = run("classify", "hsv", colours, "--out", tmp_path / "layer.safetensors", "--validation", colours)

    layer = Classifier.load(tmp_path / "layer.safetensors")
    assert "1.000 of " in said
    assert layer.labels == ("brick", "fire", "grass", "moss")
    probabilities = layer.probabilities(np.eye(4, 512, dtype=np.float32))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)  # FP32


def test_two_classes_are_enough_and_one_is_not() -> None:
    """scikit-learn treats two classes as a special case."""
    rows = np.eye(2, dtype=np.float32)[[0, 0, 1, 1]]
    both = PictureSet("both", tuple(Picture(Path(str(n)), label) for n, label in enumerate(["no", "no", "yes", "yes"])))
    one = PictureSet("one", both.pictures[:2])

    layer = Classifier.fit(rows, both)

    assert layer.weight.shape == (2, 2)
    assert layer.accuracy(rows, both) == 1
    with pytest.raises(BuildError, match="one has one class only"):
        Classifier.fit(rows[:2], one)


def test_other_files_are_no_classifiers(tmp_path: Path) -> None:
    """A checkpoint has no labels."""
    small_checkpoint().save(tmp_path / "network.safetensors")

    with pytest.raises(BuildError, match=r"network\.safetensors is no classifier: it has no 'labels'"):
        Classifier.load(tmp_path / "network.safetensors")


def test_whitening_a_network(tmp_path: Path) -> None:
    """Its descriptors of other pictures are less alike, and its file mentions the whitening."""
    small_checkpoint().save(tmp_path / "before.safetensors")
    noise = np.random.default_rng(0)
    for number in range(140):
        (tmp_path / "pictures" / f"{number % 7}").mkdir(parents=True, exist_ok=True)
        pixels = noise.integers(0, 256, (4, 4, 3), np.uint8)
        Image.fromarray(pixels).resize((96, 80)).save(tmp_path / "pictures" / f"{number % 7}" / f"{number}.png")

    run("whiten", tmp_path / "before.safetensors", tmp_path / "pictures", "--out", tmp_path / "after.safetensors")

    after = Checkpoint.load(tmp_path / "after.safetensors")
    assert after.provenance["whitening"] == f"{tmp_path / 'pictures'}, shrinkage 1"
    assert after.network.spec == SMALL
    pixels = torch.from_numpy(
        np.stack([np.array(Image.open(path)) for path in (tmp_path / "pictures" / "0").iterdir()])
    )
    before, whitened = (describe(network, pixels) for network in (small_checkpoint().network, after.network))
    assert (whitened @ whitened.T).mean() < (before @ before.T).mean()


def test_whitening_needs_pictures(tmp_path: Path) -> None:
    """It needs more pictures than dimensions, and never gives more dimensions than there are."""
    few = PictureSet("few", tuple(Picture(tmp_path / f"{number}", "a") for number in range(20)))

    with pytest.raises(BuildError, match="needs at least 129 pictures; few has 20 for 128"):
        rewhiten(small_checkpoint().network, few, lambda _: None, dimension=128, shrinkage=1.0, within_classes=True)


def test_blending_lies_between() -> None:
    """Its ends are the two networks, up to the rounding of weights, and its middle is neither."""
    start, trained = (small_checkpoint(seed).network for seed in (0, 1))
    pixels = some_pixels()

    ends = [describe(blend(start, trained, share), pixels) for share in (0.0, 1.0)]
    middle = blend(start, trained, 0.5)

    # Rounding again moves single bits of FP32.
    torch.testing.assert_close(ends[0], describe(start, pixels), atol=1e-2, rtol=0)
    torch.testing.assert_close(ends[1], describe(trained, pixels), atol=1e-2, rtol=0)
    mean = (start.head.projection.weight + trained.head.projection.weight) / 2
    torch.testing.assert_close(middle.head.projection.weight, mean, atol=0, rtol=2**-8)


def test_a_mean_lies_in_the_middle_of_all() -> None:
    """Of two networks it is the half-way blend; of three, each counts alike."""
    trained = [small_checkpoint(seed) for seed in (0, 1)]
    networks = [one.network for one in trained]

    two, three = average(trained).network, average([*trained, trained[1]]).network
    halves = blend(networks[0], networks[1], 0.5).state_dict()

    assert all(torch.equal(tensor, halves[name]) for name, tensor in two.state_dict().items())
    first, second = (network.head.projection.weight for network in networks)
    torch.testing.assert_close(three.head.projection.weight, (first + 2 * second) / 3, atol=1e-6, rtol=2**-8)
    with pytest.raises(BuildError, match="a mean needs at least two networks"):
        average(trained[:1])


def test_average_says_what_it_is(tmp_path: Path) -> None:
    """The new checkpoint has the first one's provenance, and says how many networks it averages."""
    for seed in (0, 1):
        small_checkpoint(seed).save(tmp_path / f"{seed}.safetensors")
    paths = [str(tmp_path / name) for name in ("0.safetensors", "1.safetensors", "mean.safetensors")]

    result = CliRunner().invoke(train, ["average", *paths[:2], "--out", paths[2]], catch_exceptions=False)

    assert result.exit_code == 0
    told = {**small_checkpoint(0).provenance, "mean": "of 2 networks that were trained from one start"}
    assert Checkpoint.load(tmp_path / "mean.safetensors").provenance == told


def test_blending_needs_one_spec() -> None:
    """The share must also be from 0 to 1."""
    network = small_checkpoint().network
    wider = build_network(replace(network.spec, width=2 * network.spec.width))
    same, other = Checkpoint(network), Checkpoint(wider)

    with pytest.raises(BuildError, match="the networks have different specs, and nothing lies between them"):
        average([same, same, other])

    with pytest.raises(BuildError, match=r"the share is 1\.5, and must be from 0 to 1"):
        blend(network, network, 1.5)


@given(st.integers(1, 500), st.integers(0, 100))
def test_rates_rise_and_fall(steps: int, warm_up_steps: int) -> None:
    """The rates are never above 1 or below 0, and nearly 0 at the end."""
    rates = [rate_at(step, steps, warm_up_steps) for step in range(steps)]

    assert all(0 < rate <= 1 for rate in rates)
    peak = rates.index(max(rates))
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] <= max(0.5, 3 / steps)
