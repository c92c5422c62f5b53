"""Masks that say what each pixel of a picture shows, for training that segments beside describing.

The mask of `a.jpg` lies beside it as `a.mask.png`: 8 bits a pixel, upright, one number per class, 255 if the pixel's
class is unknown. Without a mask, the class of every pixel is unknown.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from pspsearch.model.contract import Fit, InputShape
from pspsearch_build.errors import BuildError

Mask = NDArray[np.uint8]
"""[height_px, width_px]"""

SUFFIX = ".mask.png"
UNKNOWN = 255


def read_mask(picture: Path, shape: InputShape, classes: int) -> Mask:
    """The picture's mask, fitted like its pixels. Raises BuildError if the file is not a mask of so many classes."""
    path, size = picture.with_suffix(SUFFIX), (shape.width_px, shape.height_px)
    if not path.is_file():
        return np.full((shape.height_px, shape.width_px), UNKNOWN, np.uint8)
    try:
        with Image.open(path) as image:
            if image.mode not in {"L", "P"}:
                raise BuildError(f"{path} is no mask: it has a mode of {image.mode} where 8 bits a pixel are needed")
            whole = Image.fromarray(np.asarray(image))
    except (OSError, UnidentifiedImageError) as error:
        raise BuildError(f"{path} cannot be read: {error}") from error
    if shape.fit is Fit.SQUASH:
        fitted = whole.resize(size, Image.Resampling.NEAREST)
    elif shape.fit is Fit.CROP:
        fitted = ImageOps.fit(whole, size, Image.Resampling.NEAREST)
    else:
        fitted = ImageOps.pad(whole, size, Image.Resampling.NEAREST, color=UNKNOWN)
    mask = np.array(fitted)
    wrong = mask[(mask >= classes) & (mask != UNKNOWN)]
    if wrong.size:
        raise BuildError(f"{path} has pixels of class {wrong[0]}, and there are {classes} classes")
    return mask
