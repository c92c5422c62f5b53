"""What one caller may do: a right, and where it holds."""

from dataclasses import dataclass
from enum import IntEnum

from pspsearch.errors import Forbidden


class Right(IntEnum):
    """What a caller may do; each right includes those before it."""

    READ = 1
    """To search, to read items, and to read the state of the server."""
    WRITE = 2
    """To put items in and to delete them."""
    ADMIN = 3
    """To change collections and model versions."""


@dataclass(frozen=True, slots=True)
class Access:
    """What one caller may do, and how much."""

    holder: str = ""
    """The caller's name; empty if the server asks for none."""
    right: Right = Right.ADMIN
    collections: frozenset[str] = frozenset()
    """The only collections that the caller has access to; empty for all."""
    calls_per_s: float | None = None
    """The caller's own rate, 0 for no bound; None for the server's."""
    max_request_bytes: int | None = None
    """The caller's own bound; None for the server's."""

    def sees(self, collection: str) -> bool:
        """Whether the caller may know of the collection."""
        return not self.collections or collection in self.collections

    def check_right(self, right: Right) -> None:
        """Raises Forbidden if the caller may do that nowhere at all."""
        if right > self.right:
            raise Forbidden(f"{self.holder} has the right to {self.right.name}, and this takes {right.name}")

    def check(self, right: Right, collection: str | None) -> None:
        """Raises Forbidden if the caller may not do that to the collection; None is the server as a whole."""
        self.check_right(right)
        if collection is None and right > Right.READ and self.collections:
            raise Forbidden(f"{self.holder} may do so in its collections, and this is about all of them")
        if collection is not None and not self.sees(collection):
            raise Forbidden(f"{self.holder} has no access to collection {collection[:80]!r}")


EVERYTHING = Access()
"""What every caller may do if the server does not ask who calls."""
