"""Masks beside pictures."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pspsearch.model.contract import Fit, InputShape
from pspsearch_build.data.augmentation import Augmentation, augment_with_mask
from pspsearch_build.data.masks import UNKNOWN, read_mask
from pspsearch_build.data.pictures import read_unlabelled
from pspsearch_build.errors import BuildError

SHAPE = InputShape(24, 24)


def save_mask(folder: Path, mask: np.ndarray[tuple[int, int], np.dtype[np.uint8]]) -> Path:
    """Saves a mask beside a picture that need not exist."""
    Image.fromarray(mask).save(folder / "a.mask.png")
    return folder / "a.jpg"


@pytest.mark.parametrize(
    ("fit", "first", "last"),
    [(Fit.SQUASH, [0, 1], [0, 1]), (Fit.CROP, [0, 1], [0, 1]), (Fit.PAD, [UNKNOWN], [UNKNOWN])],
)
def test_masks_are_fitted_as_pictures_are(fit: Fit, first: list[int], last: list[int], tmp_path: Path) -> None:
    """The left half is 0 and the right half is 1; padding is unknown."""
    picture = save_mask(tmp_path, np.repeat(np.array([[0, 1]], np.uint8), 24, axis=1).repeat(24, axis=0))

    mask = read_mask(picture, InputShape(24, 24, fit), 2)

    assert mask.shape == (24, 24)
    assert sorted(set(map(int, mask[0]))) == first
    assert sorted(set(map(int, mask[-1]))) == last
    assert (mask[12, :11] == 0).all()
    assert (mask[12, 13:] == 1).all()


def test_without_a_mask_nothing_is_known(tmp_path: Path) -> None:
    """A missing mask is not an error."""
    assert (read_mask(tmp_path / "a.jpg", SHAPE, 2) == UNKNOWN).all()


def test_other_files_are_refused(tmp_path: Path) -> None:
    """Colours, numbers beyond the classes, and damage are refused."""
    picture = save_mask(tmp_path, np.full((8, 8), 3, np.uint8))
    with pytest.raises(BuildError, match=r"a\.mask\.png has pixels of class 3, and there are 3 classes"):
        read_mask(picture, SHAPE, 3)

    Image.new("RGB", (8, 8)).save(tmp_path / "a.mask.png")
    with pytest.raises(BuildError, match="it has a mode of RGB"):
        read_mask(picture, SHAPE, 3)

    (tmp_path / "a.mask.png").write_bytes(b"nothing")
    with pytest.raises(BuildError, match="cannot be read"):
        read_mask(picture, SHAPE, 3)


def test_masks_are_no_pictures(tmp_path: Path) -> None:
    """Masks lie in the pictures' folders, but are not read as pictures."""
    picture = save_mask(tmp_path, np.zeros((8, 8), np.uint8))
    Image.new("RGB", (8, 8)).save(picture)

    assert [one.path for one in read_unlabelled(tmp_path).pictures] == [picture]


def test_a_mask_moves_with_its_picture() -> None:
    """Where a view shows the bright part, its mask says so; at edges a pixel may be either."""
    bright = np.zeros((48, 48), np.uint8)
    bright[10:30, 20:44] = 1
    pixels = np.repeat(bright[..., None] * 200 + 20, 3, axis=2).astype(np.uint8)
    how = Augmentation(rotation_degrees=40, brightness=0, contrast=0, saturation=0, tint=0, blur=0, erase=0, occlude=0)

    for seed in range(10):
        view, mask = augment_with_mask(pixels, bright, InputShape(40, 36), how, np.random.default_rng(seed))

        assert mask.shape == (40, 36)
        known = mask != UNKNOWN
        agree = (view[..., 0] > 120) == (mask == 1)
        assert agree[known].mean() > 0.95
        assert (known | (view == 128).all(axis=-1)).mean() > 0.95
