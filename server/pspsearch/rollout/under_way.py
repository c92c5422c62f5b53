"""A rollout that has not ended, and who watches it."""

import asyncio
from dataclasses import dataclass, field, replace

from pspsearch.domain import Collection
from pspsearch.live.live import Live, OpenGeneration
from pspsearch.rollout.rollout import Rollout


@dataclass(eq=False, slots=True)
class UnderWay:
    """Where it stands, and what works at it."""

    collection: Collection
    opened: OpenGeneration
    now: Rollout
    candidate: Live | None = None
    """As soon as its index is there."""
    task: "asyncio.Task[None] | None" = None
    closing: "asyncio.Task[None] | None" = None
    """Of the index of an attempt before this one."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Replaced by another one with every change."""

    def tell(self, **changes: object) -> None:
        """Another moment, for whoever watches."""
        self.now = replace(self.now, **changes)  # pyright: ignore[reportArgumentType] - the fields of Rollout
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()
