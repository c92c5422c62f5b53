"""What answers for a collection: a generation, its describer and its index."""

import asyncio
import contextlib
from collections.abc import Generator
from dataclasses import dataclass, field

from pspsearch.domain import Collection, Generation
from pspsearch.live.usage import Usage
from pspsearch.ports import Describer, Index


@dataclass(frozen=True, eq=False, slots=True)
class OpenGeneration:
    """A generation and its describer."""

    generation: Generation
    describer: Describer
    lags: asyncio.Event = field(default_factory=asyncio.Event)
    """Set after a write that could not be described for this generation, so that it is described later."""


@dataclass(frozen=True, eq=False, slots=True)
class Live:
    """A snapshot of a collection with a generation that can answer for it. A call keeps its snapshot to its end."""

    collection: Collection
    opened: OpenGeneration
    index: Index
    beside: tuple[OpenGeneration, ...] = ()
    """The generations that writes must reach, too, while this one answers."""
    usage: Usage = field(default_factory=Usage)
    """The one mutable part, shared by all snapshots with this generation."""

    @property
    def generation(self) -> Generation:
        """The generation that every answer comes from."""
        return self.opened.generation

    @property
    def describer(self) -> Describer:
        """The describer of the generation's model version."""
        return self.opened.describer

    @contextlib.contextmanager
    def in_use(self) -> Generator["Live"]:
        """Keeps the generation open until the block ends."""
        with self.usage.by_a_call():
            yield self
