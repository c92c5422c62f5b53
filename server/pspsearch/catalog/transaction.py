"""What one call does to the catalog, and what listeners hear of it."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import apsw

from pspsearch.domain import Commit, Generation, Row


@dataclass(frozen=True, slots=True)
class Change:
    """An item in one generation got its first row, got another one, or lost it."""

    generation: Generation
    removed: int | None
    """The sequence of the row that is gone; None if there was none."""
    added: Row | None


@dataclass(frozen=True, slots=True)
class Transaction:
    """One call's part of a commit."""

    connection: apsw.Connection
    now_us: int
    """In microseconds since 1970, UTC."""
    changes: list[Change] = field(default_factory=list[Change])
    """In the order in which they were made."""

    def next_sequence(self) -> int:
        """Returns a sequence higher than that of every change before, even of items that are deleted."""
        return self.connection.execute("UPDATE last_change SET sequence = sequence + 1 RETURNING sequence").get


def gather(changes: Iterable[Change]) -> list[Commit]:
    """Makes one Commit per changed generation, by first change; leaves out rows that were both added and removed."""
    generations: dict[int, Generation] = {}
    added: dict[int, dict[int, Row]] = {}
    removed: dict[int, list[int]] = {}
    for change in changes:
        key = change.generation.key
        generations.setdefault(key, change.generation)
        new, old = added.setdefault(key, {}), removed.setdefault(key, [])
        if change.removed is not None and new.pop(change.removed, None) is None:
            old.append(change.removed)
        if change.added is not None:
            new[change.added.sequence] = change.added
    return [
        Commit(generation.collection, key, tuple(added[key].values()), tuple(removed[key]))
        for key, generation in generations.items()
        if added[key] or removed[key]
    ]
