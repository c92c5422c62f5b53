"""Augmented views of a picture."""

import numpy as np
import pytest
from msgspec.structs import replace

from pspsearch.model.contract import InputShape
from pspsearch_build.data.augmentation import Augmentation, Pixels, augment
from pspsearch_build.errors import BuildError
from tests.pictures import load_photo

NOTHING = Augmentation(**dict.fromkeys(Augmentation.__struct_fields__, 0.0) | {"least_area": 1.0, "aspect": 1.0})
SHAPE = InputShape(96, 128)
PHOTO = np.asarray(load_photo(160, 120))
AS_IT_IS = np.asarray(load_photo(128, 96))


def views(count: int, **changes: float) -> list[Pixels]:
    """Views of one photograph, each with its own seed."""
    how = replace(NOTHING, **changes)
    return [augment(PHOTO, SHAPE, how, np.random.default_rng(seed)) for seed in range(count)]


def difference(view: Pixels, other: Pixels) -> float:
    """The mean difference, in steps of a pixel's 256."""
    return float(np.abs(view.astype(int) - other).mean())


def test_nothing_leaves_the_picture_as_it_is() -> None:
    """Only resizing differs: bilinear without a filter against Lanczos, some steps along edges."""
    (view,) = views(1)

    assert view.shape == (96, 128, 3)
    assert view.dtype == np.uint8
    assert difference(view, AS_IT_IS) < 6


def test_same_random_numbers_give_the_same_view() -> None:
    """Other numbers give another view."""
    one, other = (augment(PHOTO, SHAPE, Augmentation(), np.random.default_rng(5)) for _ in range(2))
    third = augment(PHOTO, SHAPE, Augmentation(), np.random.default_rng(6))

    assert (one == other).all()
    assert difference(one, third) > 10


def test_mirror_image_is_one() -> None:
    """Every view is mirrored if the chance is 1, and about half by default."""
    (as_it_is,) = views(1)
    (mirrored,) = views(1, flip=1.0)
    flipped = [difference(view, mirrored) < 1 for view in views(60, flip=0.5)]

    assert difference(mirrored[:, ::-1], as_it_is) < 1
    assert 15 < sum(flipped) < 45


def test_view_shows_a_part() -> None:
    """A view of a tenth of the picture occurs in it at a third of the size, elsewhere each time."""
    how = replace(NOTHING, least_area=0.1)
    ramp = np.tile(np.linspace(0, 255, 160).astype(np.uint8)[None, :, None], (120, 1, 3))

    spans = [np.ptp(augment(ramp, SHAPE, how, np.random.default_rng(seed))) for seed in range(50)]

    assert min(spans) < 110
    assert max(spans) > 230


def test_rotation_turns_about_the_middle() -> None:
    """A bright spot in the middle stays there; the corners come from outside and are grey."""
    spot = np.zeros((120, 160, 3), np.uint8)
    spot[55:65, 75:85] = 255
    how = replace(NOTHING, rotation_degrees=45.0)

    turned = [augment(spot, SHAPE, how, np.random.default_rng(seed)) for seed in range(8)]

    for view in turned:
        rows, columns = np.nonzero(view[:, :, 0] > 200)
        assert (rows.mean(), columns.mean()) == pytest.approx((47.5, 63.5), abs=1)
    assert max(int(view[0, 0, 0]) for view in turned) == 128


def test_light_changes_as_far_as_it_may() -> None:
    """Brightness changes the mean, contrast the spread, saturation the colours, tint one colour against another."""
    bright = [view.mean() / AS_IT_IS.mean() for view in views(40, brightness=0.3)]
    spread = [view.std() / AS_IT_IS.std() for view in views(40, contrast=0.3)]
    colour = [np.ptp(view.astype(int), axis=2).mean() for view in views(40, saturation=1.0)]
    tint = [view[..., 0].mean() / view[..., 2].mean() for view in views(40, tint=0.1)]

    for shares in (bright, spread):
        assert 0.65 < min(shares) < 0.8
        assert 1.05 < max(shares) < 1.35
    assert min(colour) < 0.3 * np.ptp(AS_IT_IS.astype(int), axis=2).mean() < max(colour)
    assert max(tint) / min(tint) > 1.1


def test_blur_takes_detail_away() -> None:
    """A blur with chance 1 removes detail."""
    assert all(np.abs(np.diff(view.astype(int), axis=1)).mean() < 0.9 * detail() for view in views(5, blur=1.0))


def test_small_picture_has_less_detail() -> None:
    """A view shrunk to a quarter of its side loses detail, and otherwise stays the same picture of the same size."""
    (as_it_is,) = views(1)
    shrunk = views(20, shrink=1.0)

    details = [float(np.abs(np.diff(view.astype(int), axis=1)).mean()) for view in shrunk]
    assert min(details) < 0.6 * detail()
    assert np.mean(details) < 0.9 * detail()
    assert all(view.shape == as_it_is.shape and difference(view, as_it_is) < 15 for view in shrunk)


def detail() -> float:
    """The detail of the original picture."""
    return float(np.abs(np.diff(views(1)[0].astype(int), axis=1)).mean())


@pytest.mark.parametrize("way", ["erase", "occlude"])
def test_a_part_is_hidden(way: str) -> None:
    """A rectangle of 2 % to 20 % of the view changes, and the rest stays."""
    (as_it_is,) = views(1)

    shares = [float((view != as_it_is).any(axis=2).mean()) for view in views(30, **{way: 1.0})]

    assert all(share <= 0.21 for share in shares)
    assert np.mean(shares) > 0.04


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("least_area", 0.0, "least_area is 0.0, and must be from 0.01 to 1"),
        ("aspect", 0.5, "aspect is 0.5, and must be from 1 to 4"),
        ("flip", 1.5, "flip is 1.5, and must be from 0 to 1"),
        ("blur", float("nan"), "blur is nan"),
    ],
)
def test_senseless_setting_is_a_sentence(name: str, value: float, sentence: str) -> None:
    """The error states the valid range."""
    with pytest.raises(BuildError, match=sentence):
        replace(NOTHING, **{name: value})
