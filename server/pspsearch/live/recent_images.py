"""Keeps the images of the latest live queries, for checks of a new model version."""

from collections import defaultdict, deque

_KEPT = 32
_LARGEST_BYTES = 1 << 20


class RecentImages:
    """A few images for each collection, in memory only."""

    def __init__(self, *, enabled: bool = True) -> None:
        self._enabled = enabled
        self._images: defaultdict[str, deque[bytes]] = defaultdict(lambda: deque(maxlen=_KEPT))

    def add(self, collection: str, image: bytes) -> None:
        """Records an image that was searched for. Images above 1 MiB are not kept."""
        if self._enabled and len(image) <= _LARGEST_BYTES:
            self._images[collection].append(image)

    def of(self, collection: str) -> list[bytes]:
        """Returns the latest images of a collection."""
        return list(self._images[collection]) if collection in self._images else []

    def forget(self, collection: str) -> None:
        """Forgets all images of a collection."""
        self._images.pop(collection, None)
