"""What answers for a collection."""

import asyncio
import contextlib
from collections.abc import Generator
from dataclasses import dataclass, field

from pspsearch.domain import Collection, Generation
from pspsearch.ports import Describer, Index


@dataclass(eq=False, slots=True)
class OpenGeneration:
    """A generation and what describes for it."""

    generation: Generation
    describer: Describer
    lags: asyncio.Event = field(default_factory=asyncio.Event)
    """Set after a write that could not be described for it, so that somebody does it later."""


@dataclass(eq=False, slots=True)
class Live:
    """A collection with a generation that can answer for it. A call takes it once and keeps it to its end."""

    collection: Collection
    opened: OpenGeneration
    index: Index
    others: tuple[OpenGeneration, ...] = ()
    """Generations beside it that writes are to reach, too."""
    users: int = 0
    unused: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it is closed to new calls and the last one has gone."""
    closing: bool = False

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
        """It is not closed before the block ends."""
        self.users += 1
        try:
            yield self
        finally:
            self.users -= 1
            if self.closing and not self.users:
                self.unused.set()

    def open_again(self) -> None:
        """After `until_unused`: calls may take it as before."""
        self.closing, self.unused = False, asyncio.Event()

    async def until_unused(self) -> None:
        """Waits for the last call that has it; from now on none may take it."""
        self.closing = True
        if self.users:
            await self.unused.wait()
