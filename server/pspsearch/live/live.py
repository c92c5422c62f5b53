"""What answers for a collection."""

import asyncio
import contextlib
from collections.abc import Generator
from dataclasses import dataclass, field

from pspsearch.domain import Collection, Generation
from pspsearch.live.usage import Usage
from pspsearch.ports import Describer, Index


@dataclass(frozen=True, eq=False, slots=True)
class OpenGeneration:
    """A generation and what describes for it."""

    generation: Generation
    describer: Describer
    lags: asyncio.Event = field(default_factory=asyncio.Event)
    """Set after a write that could not be described for it, so that somebody does it later."""


@dataclass(frozen=True, eq=False, slots=True)
class Live:
    """A collection as it is at a moment, with a generation that can answer for it. A call keeps it to its end."""

    collection: Collection
    opened: OpenGeneration
    index: Index
    beside: tuple[OpenGeneration, ...] = ()
    """Generations that writes are to reach, too, while this one answers."""
    usage: Usage = field(default_factory=Usage)
    """The one thing that changes; all snapshots with this generation share it."""

    @property
    def generation(self) -> Generation:
        """Every answer is of it."""
        return self.opened.generation

    @property
    def describer(self) -> Describer:
        """Of the generation's model version."""
        return self.opened.describer

    @contextlib.contextmanager
    def in_use(self) -> Generator["Live"]:
        """Its generation is not closed before the block ends."""
        with self.usage.by_a_call():
            yield self
