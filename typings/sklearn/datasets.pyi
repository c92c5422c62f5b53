import numpy as np
from numpy.typing import NDArray

class _Pictures:
    images: list[NDArray[np.uint8]]

def load_sample_images() -> _Pictures: ...
