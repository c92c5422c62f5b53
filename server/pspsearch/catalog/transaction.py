"""What one call does to the catalog, and what listeners hear of it."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import apsw

from pspsearch.domain import Commit, Generation, Row


@dataclass(frozen=True, slots=True)
class Change:
    """One item got another row, lost its row, or got its first one."""

    generation: Generation
    removed: int | None
    """The sequence of the row that is no more."""
    added: Row | None


@dataclass(frozen=True, slots=True)
class Transaction:
    """One call's part of what the writer commits."""

    connection: apsw.Connection
    now_us: int
    """Since 1970, UTC."""
    changes: list[Change] = field(default_factory=list[Change])
    """In the order in which they were made."""

    def next_sequence(self) -> int:
        """Higher than that of every change before, those of items that are no more included."""
        return self.connection.execute("UPDATE last_change SET sequence = sequence + 1 RETURNING sequence").get


def gather(changes: Iterable[Change]) -> list[Commit]:
    """One Commit per generation that changed, by their first change; a row that came and went within it is not told."""
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
