"""Decides which generation answers, and which one is kept to roll back to."""

import logging

from pspsearch.domain import Collection, Generation, GenerationState
from pspsearch.errors import RolloutRefused
from pspsearch.live.collections import Collections
from pspsearch.live.live import Live, OpenGeneration
from pspsearch.ports import Generations
from pspsearch.rollout.keepers import Keepers

log = logging.getLogger(__name__)

_ATTEMPTS = 100
"""How often to try a promotion while writes arrive that could not be described at once."""


class Promoter:
    """Changes which generation answers for a collection. The caller must hold the `turn` of `Collections`."""

    def __init__(self, collections: Collections, catalog: Generations, keepers: Keepers) -> None:
        self._collections = collections
        self._catalog = catalog
        self._keepers = keepers
        self._kept: dict[int, Live] = {}
        """The kept generations by the key of their collection."""

    @property
    def kept(self) -> list[Live]:
        """All kept generations."""
        return [*self._kept.values()]

    async def keep(self, collection: Collection, opened: OpenGeneration) -> None:
        """Opens a generation that was kept when the server stopped."""
        self._kept[collection.key] = await self._collections.prepare(collection, opened)
        self._collections.join(collection, opened)
        opened.lags.set()  # a write may have lagged when the server stopped
        self._keepers.begin(opened)

    async def flip(self, to: Live, details: str) -> None:
        """Makes this generation the one that answers and keeps the other: first in the catalog, then for callers.

        What the generation lacks is described first. Raises RolloutRefused if that never ends.
        """
        generation, unreadable = to.generation, 0
        for _ in range(_ATTEMPTS):
            counted = await self._catalog.count_lacking(generation)
            if counted.with_image > unreadable:
                unreadable = await self._keepers.fill_up(to.opened)
            elif await self._catalog.promote_generation(generation, counted.sequence, details):
                break
        else:
            raise RolloutRefused("writes come in faster than the new version describes them: try again")
        # From here on there is no await, so that no call sees one change without the other.
        kept = self._kept.pop(to.collection.key, None)
        if kept is not None and kept is not to:
            self._leave(to.collection, kept.generation)
            self._tidy(kept)
        self._keepers.stop(generation)
        old = self._kept[to.collection.key] = self._collections.switch(to)
        self._keepers.begin(old.opened)
        log.info("collection %s: answers from %s", to.collection.name, to.describer.version)

    async def roll_back(self, collection: Collection) -> Generation:
        """Makes the kept generation answer again and keeps the other. Raises RolloutRefused if none is kept."""
        kept = self._kept.get(collection.key)
        if kept is None:
            raise RolloutRefused("no generation is kept that could answer")
        records = await self._catalog.generations(collection.key)
        await self.flip(kept, next(one.details for one in records if one.generation == kept.generation))
        return kept.generation

    async def retire(self, collection: Collection) -> Generation:
        """Lets go of the kept generation, whether it is open or not. Raises RolloutRefused if none is kept."""
        records = await self._catalog.generations(collection.key)
        record = next((one for one in records if one.state is GenerationState.KEPT), None)
        if record is None:
            raise RolloutRefused("no generation is kept")
        await self._catalog.end_generation(record.generation, GenerationState.RETIRED, record.details)
        self._leave(collection, record.generation)
        kept = self._kept.pop(collection.key, None)
        if kept is not None:
            self._tidy(kept)
        return record.generation

    def forget(self, collection: Collection) -> Live | None:
        """Forgets the kept generation of a deleted collection, and returns it for the caller to shut."""
        kept = self._kept.pop(collection.key, None)
        if kept is not None:
            self._leave(collection, kept.generation)
        return kept

    def _leave(self, collection: Collection, generation: Generation) -> None:
        self._collections.leave(collection, generation)
        self._keepers.stop(generation)

    def _tidy(self, live: Live) -> None:
        """Shuts the generation when the calls that still use it have ended."""
        self._collections.finish(self._collections.shut(live))
