"""The images of the last live queries, for a new model version to be tried with."""

from collections import defaultdict, deque

_KEPT = 32
_LARGEST_BYTES = 1 << 20


class RecentImages:
    """A few for each collection, in memory only."""

    def __init__(self, *, enabled: bool = True) -> None:
        self._enabled = enabled
        self._images: defaultdict[str, deque[bytes]] = defaultdict(lambda: deque(maxlen=_KEPT))

    def add(self, collection: str, image: bytes) -> None:
        """One that was searched for; large ones are not kept."""
        if self._enabled and len(image) <= _LARGEST_BYTES:
            self._images[collection].append(image)

    def of(self, collection: str) -> list[bytes]:
        """The last ones."""
        return list(self._images[collection]) if collection in self._images else []

    def forget(self, collection: str) -> None:
        """All of a collection."""
        self._images.pop(collection, None)
