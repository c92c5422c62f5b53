"""Array types that the index uses throughout."""

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float16]
"""Stored descriptors, one per row number: rows x dimension."""

Mask = NDArray[np.bool_]
"""Which rows may be found, one entry per row number."""

RowNumbers = NDArray[np.int64]
"""Places in a Matrix; -1 means no row."""
