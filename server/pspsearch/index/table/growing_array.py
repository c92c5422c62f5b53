"""Arrays that only ever get longer."""

from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T", bound=np.generic)


class GrowingArray(Generic[T]):
    """Numbers that one thread appends to, while others read those that were there before."""

    def __init__(self, values: NDArray[T]) -> None:
        """Starts with a copy of the values."""
        self._memory = values.copy()
        self._count = len(values)

    def __len__(self) -> int:
        return self._count

    @property
    def size_bytes(self) -> int:
        """The size in memory, with the room for more."""
        return self._memory.nbytes

    def append(self, values: NDArray[T]) -> None:
        """Appends the values; arrays read before stay as they are."""
        end = self._count + len(values)
        if end > len(self._memory):
            larger = np.empty(max(end, 2 * len(self._memory)), self._memory.dtype)
            larger[: self._count] = self._memory[: self._count]
            self._memory = larger
        self._memory[self._count : end] = values
        self._count = end

    def first(self, count: int) -> NDArray[T]:
        """Returns the first `count` values, which must have been appended. The caller must not write to them."""
        return self._memory[:count]
