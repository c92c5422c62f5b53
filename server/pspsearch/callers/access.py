"""What a caller may do."""

from dataclasses import dataclass
from enum import IntEnum

from pspsearch.errors import Forbidden


class Right(IntEnum):
    """Each holds those before it."""

    READ = 1
    """Searches, items, how things stand."""
    WRITE = 2
    """Putting items in and taking them out."""
    ADMIN = 3
    """Collections and model versions."""


@dataclass(frozen=True, slots=True)
class Access:
    """Of one caller."""

    holder: str = ""
    """Who it is; empty where nobody asks."""
    right: Right = Right.ADMIN
    collections: frozenset[str] = frozenset()
    """The only ones; empty for all."""
    calls_per_s: float | None = None
    """Its own bound; None for the server's."""
    max_request_bytes: int | None = None
    """Its own bound; None for the server's."""

    def sees(self, collection: str) -> bool:
        """Whether there is such a collection for it."""
        return not self.collections or collection in self.collections

    def check_right(self, right: Right) -> None:
        """Forbidden where it may do that to nothing at all."""
        if right > self.right:
            raise Forbidden(f"{self.holder} has the right to {self.right.name}, and this takes {right.name}")

    def check(self, right: Right, collection: str | None) -> None:
        """Forbidden where it may not do that to the collection; None is the server as a whole."""
        self.check_right(right)
        if collection is None and right > Right.READ and self.collections:
            raise Forbidden(f"{self.holder} may do so in its collections, and this is about all of them")
        if collection is not None and not self.sees(collection):
            raise Forbidden(f"{self.holder} has no access to collection {collection[:80]!r}")


EVERYTHING = Access()
"""Where nobody asks who calls."""
