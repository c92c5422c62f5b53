"""Training pictures that tests draw: a class is a pattern, in any colours."""

from pathlib import Path

import numpy as np
from PIL import Image

from pspsearch.model.contract import InputShape
from pspsearch_build.data.augmentation import Augmentation, augment
from pspsearch_build.network.random_pictures import random_pictures

_SHAPE = InputShape(64, 64)
_MOVED = Augmentation(0.6, brightness=0.4, contrast=0.3, saturation=0.5, erase=0.0, occlude=0.0, blur=0.0)


def draw_patterns(root: Path, classes: int, numbers: range) -> Path:
    """A folder per class, with views of one procedural picture in swapped or inverted colours; views differ by number.

    Colours say nothing, so an untrained network finds few of them.
    """
    for label, base in enumerate(random_pictures(classes, _SHAPE, seed=7)):
        folder = root / f"pattern{label:02}"
        folder.mkdir(parents=True)
        for number in numbers:
            random = np.random.default_rng((label, number))
            view = augment(base[..., random.permutation(3)], _SHAPE, _MOVED, random)
            Image.fromarray(255 - view if random.random() < 0.5 else view).save(folder / f"{number}.png")
    return root
