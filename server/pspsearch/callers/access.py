"""What one caller may do: a right, and where it holds."""

from dataclasses import dataclass
from enum import IntEnum

from pspsearch.errors import Forbidden


class Right(IntEnum):
    """What a caller may do; each right includes those before it."""

    READ = 1
    """To search, to read items, and to see how things stand."""
    WRITE = 2
    """To put items in and to take them out."""
    ADMIN = 3
    """To change collections and model versions."""


@dataclass(frozen=True, slots=True)
class Access:
    """What one caller may do, and how much."""

    holder: str = ""
    """The caller's name; empty where nobody asks for one."""
    right: Right = Right.ADMIN
    collections: frozenset[str] = frozenset()
    """The only collections that the caller has access to; empty for all."""
    calls_per_s: float | None = None
    """A rate of the caller's own, 0 for any; None for the server's."""
    max_request_bytes: int | None = None
    """A bound of the caller's own; None for the server's."""

    def sees(self, collection: str) -> bool:
        """Whether the collection is one that the caller may know of."""
        return not self.collections or collection in self.collections

    def check_right(self, right: Right) -> None:
        """Forbidden where the caller may do that to nothing at all."""
        if right > self.right:
            raise Forbidden(f"{self.holder} has the right to {self.right.name}, and this takes {right.name}")

    def check(self, right: Right, collection: str | None) -> None:
        """Forbidden where the caller may not do that to the collection; None is the server as a whole."""
        self.check_right(right)
        if collection is None and right > Right.READ and self.collections:
            raise Forbidden(f"{self.holder} may do so in its collections, and this is about all of them")
        if collection is not None and not self.sees(collection):
            raise Forbidden(f"{self.holder} has no access to collection {collection[:80]!r}")


EVERYTHING = Access()
"""What every caller may do where nobody asks who calls."""
