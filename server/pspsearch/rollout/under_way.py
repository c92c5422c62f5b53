"""A rollout that has not ended, with its task and its watchers."""

import asyncio
from dataclasses import dataclass, field, replace

from pspsearch.domain import Collection
from pspsearch.live.live import Live, OpenGeneration
from pspsearch.rollout.rollout import Rollout


@dataclass(eq=False, slots=True)
class UnderWay:
    """The mutable state of a rollout under way."""

    collection: Collection
    opened: OpenGeneration
    now: Rollout
    candidate: Live | None = None
    """Set as soon as its index is open."""
    task: "asyncio.Task[None] | None" = None
    closing: "asyncio.Task[None] | None" = None
    """Closes the index of the previous attempt."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set at each change, and then replaced by a new event."""

    def tell(self, **changes: object) -> None:
        """Changes fields of `now`, and wakes everybody who watches."""
        self.now = replace(self.now, **changes)  # pyright: ignore[reportArgumentType] - the fields of Rollout
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()
