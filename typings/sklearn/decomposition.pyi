from typing import Self

import numpy as np
from numpy.typing import NDArray

class PCA:
    components_: NDArray[np.float64]
    explained_variance_: NDArray[np.float64]
    mean_: NDArray[np.float64]
    def __init__(self, n_components: int, *, random_state: int) -> None: ...
    def fit(self, X: NDArray[np.float64]) -> Self: ...
