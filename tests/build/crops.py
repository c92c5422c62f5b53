"""Photographs for the network's tests: crops of scikit-learn's two, in the network's input size."""

import numpy as np
from numpy.typing import NDArray

from pspsearch.model.contract import InputShape
from tests.pictures import load_photo


def cut_crops(count: int, shape: InputShape, seed: int = 0) -> NDArray[np.uint8]:
    """Crops [count, height_px, width_px, 3] from a quarter of a photograph's height to all of it, in varying colours.

    Without the colours, crops of two photographs are near-duplicates, and which of those comes first says little.
    """
    rng = np.random.default_rng(seed)
    crops: list[NDArray[np.uint8]] = []
    for number in range(count):
        photo = load_photo(number=number % 2)
        height_px = int(rng.integers(photo.height // 4, photo.height))
        width_px = height_px * shape.width_px // shape.height_px
        left, top = rng.integers(0, photo.width - width_px + 1), rng.integers(0, photo.height - height_px + 1)
        crop = photo.crop((int(left), int(top), int(left) + width_px, int(top) + height_px))
        crops.append(np.asarray(crop.resize((shape.width_px, shape.height_px)))[:, :, rng.permutation(3)])
    return np.stack(crops)
