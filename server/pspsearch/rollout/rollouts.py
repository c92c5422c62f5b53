"""All rollouts of the server: what a caller can ask for, one change at a time."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import replace

from pspsearch.config import RolloutSettings
from pspsearch.domain import Collection, Generation, GenerationRecord, GenerationState, OfferedVersion, RolloutStage
from pspsearch.errors import InvalidRequest, NotFound, PspsearchError, RetryLater
from pspsearch.live.collections import Collections, OpenDescriber
from pspsearch.live.finishing import Finisher, to_its_end
from pspsearch.live.latencies import Latencies
from pspsearch.live.live import Live, OpenGeneration
from pspsearch.ports import Generations
from pspsearch.rollout.checks import Gate
from pspsearch.rollout.filling import Filler
from pspsearch.rollout.keepers import Keepers
from pspsearch.rollout.offers import Look, Offers
from pspsearch.rollout.promotion import Promoter
from pspsearch.rollout.rollout import Rollout, RolloutOptions
from pspsearch.rollout.runner import Runner

log = logging.getLogger(__name__)

_TRIED_S = 1.0
"""Seconds between two reports of a rollout that takes part in live searches."""


class Rollouts(Finisher):
    """Starts, watches and ends rollouts, at most one per collection. Only tasks of one event loop may use it."""

    def __init__(
        self,
        collections: Collections,
        catalog: Generations,
        look: Look,
        open_describer: OpenDescriber,
        filler: Filler,
        gate: Gate,
        latencies: Latencies,
        settings: RolloutSettings,
    ) -> None:
        super().__init__()
        self._collections = collections
        self._catalog = catalog
        self._gate = gate
        self._turn = collections.turn
        self._offers = Offers(look, open_describer)
        self._keepers = Keepers(filler, latencies)
        self._promoter = Promoter(collections, catalog, self._keepers)
        self._runner = Runner(collections, catalog, filler, gate, self._keepers, self._promoter, latencies, settings)

    async def open(self) -> None:
        """Continues the rollouts under way and opens the kept generations.

        Call it after `Collections.open`, before any call.
        """
        for live in self._collections.all():
            for record in await self._catalog.generations(live.collection.key):
                await self._reopen(live.collection, record)

    async def look(self, model: str) -> Sequence[OfferedVersion]:
        """Looks into the repository and returns the versions of a model."""
        return await self._offers.look(model)

    @to_its_end
    async def start(self, collection: str, version: int | None, options: RolloutOptions) -> Rollout:
        """Begins a rollout to a version of the collection's model, or to the highest for None.

        It is durable on return.
        """
        async with self._turn:
            live = self._collections.get(collection)
            describer = await self._offers.open(live.collection.settings.model, version)
            if describer.version.made(live.generation):
                raise InvalidRequest(f"{describer.version} is what answers already")
            first = Rollout(live.collection.name, live.generation, options)
            try:
                generation = await self._catalog.begin_generation(live.collection.key, describer.version, first.details)
            except PspsearchError:
                await self._collections.release(describer.version)
                raise
            opened = OpenGeneration(generation, describer)
            return self._runner.begin(live.collection, opened, replace(first, generation=generation)).now

    async def get(self, collection: str) -> Rollout:
        """Returns the rollout under way, or the last one that ended. Raises NotFound if there was none."""
        live = self._collections.get(collection)
        rollout = self.under_way(live.collection)
        if rollout is not None:
            return rollout
        for record in reversed(await self._catalog.generations(live.collection.key)):
            rollout = Rollout.read(live.collection.name, record)
            if rollout is not None:
                return rollout
        raise NotFound(f"the collection {live.collection.name!r} has had no rollout")

    def under_way(self, collection: Collection) -> Rollout | None:
        """Returns the rollout that has not ended, or None."""
        under_way = self._runner.find(collection)
        return None if under_way is None else self._runner.moment(under_way)

    async def generations(self, collection: str) -> list[GenerationRecord]:
        """Returns all generations of a collection, by key."""
        return await self._catalog.generations(self._collections.get(collection).collection.key)

    async def watch(self, collection: str) -> AsyncIterator[Rollout]:
        """Yields every change until the rollout has ended; the last one is its final state."""
        under_way, told = self._runner.find(self._collections.get(collection).collection), None
        while under_way is not None and not under_way.now.ended:
            changed = under_way.changed
            if (moment := self._runner.moment(under_way)) != told:
                told = moment
                yield moment
            trial = self._collections.trial(collection)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), None if trial is None else _TRIED_S)
        yield under_way.now if under_way is not None else await self.get(collection)

    @to_its_end
    async def try_out(self, collection: str, canary: float, shadow: float) -> Rollout:
        """Lets a rollout take part in live searches with these shares, now or as soon as it is ready.

        The shares are those of `RolloutOptions`; 0 ends the trial. The counts start again. Raises RolloutRefused if no
        rollout is under way.
        """
        async with self._turn:
            under_way = self._runner.require(self._collections.get(collection).collection)
            await self._runner.try_out(under_way, canary, shadow)
            return self._runner.moment(under_way)

    @to_its_end
    async def promote(self, collection: str, *, drop_missing: bool = False) -> Rollout:
        """Makes a rollout that is ready the one that answers. Raises RolloutRefused if it is not ready."""
        async with self._turn:
            under_way = self._runner.require(self._collections.get(collection).collection)
            await self._runner.promote(under_way, drop_missing=drop_missing)
            return under_way.now

    @to_its_end
    async def abort(self, collection: str) -> Rollout:
        """Ends the rollout under way; the active generation goes on answering."""
        async with self._turn:
            under_way = self._runner.require(self._collections.get(collection).collection)
            await self._runner.abort(under_way)
            return under_way.now

    @to_its_end
    async def rollback(self, collection: str) -> Generation:
        """Makes the kept generation answer again and keeps the other. Raises RolloutRefused if none is kept."""
        async with self._turn:
            return await self._promoter.roll_back(self._collections.get(collection).collection)

    @to_its_end
    async def retire(self, collection: str) -> Generation:
        """Lets go of the kept generation. Raises RolloutRefused if none is kept."""
        async with self._turn:
            return await self._promoter.retire(self._collections.get(collection).collection)

    async def delete(self, collection: str) -> int:
        """Deletes a collection with all its generations, and returns how many items it had.

        If the catalog cannot delete it, the collection stays as it was and its rollout goes on.
        """
        return await self._collections.delete(collection, self._ending)

    async def close(self) -> None:
        """Stops the rollouts under way, which continue at the next start. Call it before the collections are closed."""
        await self.finished()
        await self._runner.stop()
        await self._keepers.close()
        for live in (*self._runner.candidates, *self._promoter.kept):
            await live.index.close()

    async def _reopen(self, collection: Collection, record: GenerationRecord) -> None:
        if record.state in (GenerationState.RETIRED, GenerationState.FAILED):
            await self._collections.discard(record.generation)  # the server may have stopped before it tidied up
        if record.state not in (GenerationState.BUILDING, GenerationState.KEPT):
            return
        building = record.state is GenerationState.BUILDING
        rollout = Rollout.read(collection.name, record) if building else None
        try:
            opened = OpenGeneration(record.generation, await self._collections.open_describer(record.generation))
            if rollout is not None:
                self._runner.begin(collection, opened, replace(rollout, stage=RolloutStage.DESCRIBING, checks=()))
            else:
                await self._promoter.keep(collection, opened)
        except PspsearchError as error:
            log.error("generation %d cannot go on: %s", record.generation.key, error)  # noqa: TRY400 - a sentence
            if rollout is not None and not isinstance(error, RetryLater):
                failed = replace(rollout, stage=RolloutStage.FAILED, reason=str(error))
                await self._catalog.end_generation(record.generation, GenerationState.FAILED, failed.details)

    @contextlib.asynccontextmanager
    async def _ending(self, live: Live) -> AsyncGenerator[None]:
        """Stops the rollout while the block deletes the collection, and afterwards removes what is left of both."""
        collection = live.collection
        async with self._runner.stopped(collection):
            yield
        under_way, kept = self._runner.forget(collection), self._promoter.forget(collection)
        self._gate.forget(collection)
        if kept is not None:
            await self._collections.shut(kept)
        if under_way is not None:
            await self._runner.shut(under_way)
