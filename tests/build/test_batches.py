"""Training batches."""

import itertools
import logging
from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image

from pspsearch.model.contract import InputShape
from pspsearch_build.data.augmentation import Augmentation
from pspsearch_build.data.batches import Batch, Source, TrainingBatches
from pspsearch_build.data.pictures import read_pictures, read_unlabelled
from pspsearch_build.errors import BuildError

SHAPE = InputShape(32, 40)
CLASSES = {"blue": 3, "green": 9, "red": 1}
"""How many pictures each class has."""


@pytest.fixture
def products(tmp_path: Path) -> Path:
    """Labelled pictures, whose grey values identify them."""
    for label, count in CLASSES.items():
        (tmp_path / "products" / label).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (48, 48), (20 * number,) * 3).save(tmp_path / "products" / label / f"{number}.png")
    return tmp_path / "products"


@pytest.fixture
def others(tmp_path: Path) -> Path:
    """Unlabelled pictures."""
    (tmp_path / "others").mkdir()
    for number in range(5):
        Image.new("RGB", (64, 48), (40, 50 * number, 90)).save(tmp_path / "others" / f"{number}.png")
    return tmp_path / "others"


def batches(*sources: Source, size: int = 12, views: int = 2, seed: int = 0) -> TrainingBatches:
    """Batches with every augmentation."""
    return TrainingBatches(sources, SHAPE, Augmentation(), size, views, seed)


def numbers(tensor: torch.Tensor) -> list[int]:
    """The tensor's values."""
    return [int(one) for one in tensor]


def test_every_source_has_its_share(products: Path, others: Path) -> None:
    """One source gets two thirds and the other one third; classes come in pairs, as do views of unlabelled pictures."""
    made = batches(
        Source(read_pictures(str(products)), 2.0), Source(read_unlabelled(others), 1.0, labelled=False), size=12
    )

    batch = made[0]

    assert made.labels == ("blue", "green", "red")
    assert made.count == len(batch.pixels) == len(batch.labels) == 12
    assert batch.pixels.dtype is torch.uint8
    assert batch.pixels.shape[1:] == (32, 40, 3)
    assert numbers(batch.sources) == [0] * 8 + [1] * 4
    assert set(Counter(numbers(batch.labels[:8])).values()) <= {2, 4}
    assert all(label < made.classes for label in numbers(batch.labels[:8]))
    assert sorted(Counter(numbers(batch.labels[8:])).values()) == [2, 2]
    assert all(label >= made.classes for label in numbers(batch.labels[8:]))


def test_classes_are_drawn_alike_whatever_their_size(products: Path) -> None:
    """The pictures of a class differ as long as there are enough."""
    made = batches(Source(read_pictures(str(products))), size=4, views=2)
    drawn = Counter(label for step in range(90) for label in numbers(made[step].labels))

    assert min(drawn.values()) > 0.8 * max(drawn.values())


def test_step_is_the_same_whoever_makes_it(products: Path, others: Path) -> None:
    """Neither workers nor the first step matter; another seed gives other batches."""
    sources = Source(read_pictures(str(products))), Source(read_unlabelled(others), labelled=False)
    alone = list(itertools.islice(batches(*sources).stream(0, 0), 5))
    later = list(itertools.islice(batches(*sources).stream(3, 0), 2))
    stream = batches(*sources).stream(0, 2)
    together = list(itertools.islice(stream, 5))
    other = next(batches(*sources, seed=1).stream(0, 0))

    for one, two in (*zip(alone, together, strict=True), *zip(alone[3:], later, strict=True)):
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not torch.equal(alone[0].pixels, other.pixels)
    assert not torch.equal(alone[0].pixels, alone[1].pixels)


def test_label_in_two_sources_is_one_class(products: Path, tmp_path: Path) -> None:
    """A class of one picture is shown in several views of it."""
    (tmp_path / "more/red").mkdir(parents=True)
    (tmp_path / "more/violet").mkdir()
    for label in ("red", "violet"):
        Image.new("RGB", (48, 48), "red").save(tmp_path / "more" / label / "1.png")
    made = batches(Source(read_pictures(str(products))), Source(read_pictures(str(tmp_path / "more"))))

    labels = {label for step in range(20) for label in numbers(made[step].labels[made[step].sources == 1])}

    assert made.labels == ("blue", "green", "red", "violet")
    assert labels == {2, 3}


def test_unreadable_picture_is_told_once_and_replaced(products: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Another picture of its class takes its place; if none can be read, training stops."""
    (products / "blue/1.png").write_bytes(b"no picture")
    made = batches(Source(read_pictures(str(products))))
    with caplog.at_level(logging.WARNING):
        seen: list[Batch] = [made[step] for step in range(20)]

    assert all(len(batch.pixels) == made.count for batch in seen)
    assert [record.getMessage().split(" is left out")[0] for record in caplog.records] == [str(products / "blue/1.png")]
    (products / "red/0.png").write_bytes(b"")
    with pytest.raises(BuildError, match=r"no picture of 'red' in .*products can be read"):
        _ = [made[step] for step in range(20)]


def test_digest_is_that_of_pictures_and_weights(products: Path) -> None:
    """Other weights count as other data."""
    pictures = read_pictures(str(products))

    assert batches(Source(pictures)).digest() == batches(Source(pictures), seed=3).digest()
    assert batches(Source(pictures)).digest() != batches(Source(pictures, 2.0)).digest()


def test_senseless_source_is_a_sentence(products: Path) -> None:
    """A weight of 0, a single class, and no source at all are refused."""
    pictures = read_pictures(str(products))

    with pytest.raises(BuildError, match=r"the weight of .*products is 0.0, and must be above 0"):
        Source(pictures, 0.0)
    with pytest.raises(BuildError, match="has one class only"):
        Source(pictures.only(["red"]))
    with pytest.raises(BuildError, match="no source is given"):
        batches()
