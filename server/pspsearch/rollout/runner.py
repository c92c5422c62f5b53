"""Carries each rollout from its beginning until it is promoted or has failed."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator
from dataclasses import replace

from pspsearch.config import RolloutSettings
from pspsearch.domain import Collection, GenerationState, RolloutStage
from pspsearch.errors import (
    CatalogError,
    DeadlineExceeded,
    IndexFailed,
    NotFound,
    PspsearchError,
    RetryLater,
    RolloutRefused,
)
from pspsearch.live.collections import Collections
from pspsearch.live.finishing import cancel
from pspsearch.live.latencies import Latencies
from pspsearch.live.live import Live, OpenGeneration
from pspsearch.live.trial import Trial, Tried
from pspsearch.ports import Generations
from pspsearch.rollout.checks import Gate
from pspsearch.rollout.filling import Filler, Pace
from pspsearch.rollout.keepers import Keepers
from pspsearch.rollout.promotion import Promoter
from pspsearch.rollout.rollout import Rollout
from pspsearch.rollout.under_way import UnderWay

log = logging.getLogger(__name__)

_AGAIN_S = 5.0
"""Seconds before work that failed for a passing reason is tried again."""


class Runner:
    """Runs the rollouts under way, at most one per collection, each in its own task.

    Callers that begin, try out, promote or abort a rollout must hold the `turn` of `Collections`.
    """

    def __init__(
        self,
        collections: Collections,
        catalog: Generations,
        filler: Filler,
        gate: Gate,
        keepers: Keepers,
        promoter: Promoter,
        latencies: Latencies,
        settings: RolloutSettings,
    ) -> None:
        self._collections = collections
        self._catalog = catalog
        self._filler = filler
        self._gate = gate
        self._keepers = keepers
        self._promoter = promoter
        self._latencies = latencies
        self._settings = settings
        self._under_way: dict[int, UnderWay] = {}
        """The rollouts by the key of their collection."""

    @property
    def candidates(self) -> list[Live]:
        """The generations of rollouts under way whose index is open."""
        return [one.candidate for one in self._under_way.values() if one.candidate is not None]

    def begin(self, collection: Collection, opened: OpenGeneration, rollout: Rollout) -> UnderWay:
        """Begins the rollout to a generation that is in the catalog. Writes reach it from now on."""
        self._collections.join(collection, opened)
        under_way = self._under_way[collection.key] = UnderWay(collection, opened, rollout)
        under_way.task = asyncio.create_task(self._run(under_way))
        return under_way

    def find(self, collection: Collection) -> UnderWay | None:
        """Returns the collection's rollout that has not ended, or None."""
        return self._under_way.get(collection.key)

    def require(self, collection: Collection) -> UnderWay:
        """Returns what `find` does, but raises RolloutRefused instead of returning None."""
        under_way = self.find(collection)
        if under_way is None:
            raise RolloutRefused(f"no rollout of the collection {collection.name!r} is under way")
        return under_way

    def moment(self, under_way: UnderWay) -> Rollout:
        """Returns the rollout's state with the current figures of its trial."""
        trial = self._collections.trial(under_way.collection.name)
        return under_way.now if trial is None else replace(under_way.now, tried=trial.tried)

    async def try_out(self, under_way: UnderWay, canary: float, shadow: float) -> None:
        """Lets the rollout take part in live searches with these shares, now or when it is ready.

        The counts start again.
        """
        options = replace(under_way.now.options, canary=canary, shadow=shadow)
        changed = replace(under_way.now, options=options)
        await self._catalog.note_generation(under_way.opened.generation, changed.details)
        under_way.tell(options=options, tried=Tried())
        self._try_out(under_way)

    async def promote(self, under_way: UnderWay, *, drop_missing: bool = False) -> None:
        """Makes the rollout's generation answer.

        Raises RolloutRefused if it is not ready, or if items would be lost without leave.
        """
        candidate = under_way.candidate
        if candidate is None or under_way.now.stage is not RolloutStage.READY:
            raise RolloutRefused(f"the rollout is {under_way.now.stage}, and only one that is ready can be promoted")
        if drop_missing:
            under_way.tell(options=replace(under_way.now.options, drop_missing=True))
        unreadable, counted = 0, await self._catalog.count_lacking(candidate.generation)
        if counted.with_image:
            unreadable = await self._keepers.fill_up(candidate.opened)
            counted = await self._catalog.count_lacking(candidate.generation)
        missing = counted.without_image + unreadable
        under_way.tell(missing=missing)
        if missing and not under_way.now.options.drop_missing:
            raise RolloutRefused(
                f"{missing} items have no kept image, or one that cannot be read any more, and cannot be described by "
                "the new version: put them in again, or promote without them"
            )
        promoted = replace(self.moment(under_way), stage=RolloutStage.PROMOTED)
        await self._promoter.flip(candidate, promoted.details)
        del self._under_way[under_way.collection.key]
        under_way.tell(stage=RolloutStage.PROMOTED, tried=promoted.tried)

    async def abort(self, under_way: UnderWay) -> None:
        """Ends the rollout. If the catalog takes no writes now, the rollout goes on and RetryLater is raised."""
        async with self.stopped(under_way.collection):
            await self._end(under_way, "it was aborted")

    @contextlib.asynccontextmanager
    async def stopped(self, collection: Collection) -> AsyncGenerator[None]:
        """Stops the rollout while the block ends it.

        If the block fails, the rollout goes on, unless it had finished building and waits for its operator.
        """
        under_way = self.find(collection)
        if under_way is None or under_way.task is None or under_way.task.done():
            yield
            return
        await cancel(under_way.task)
        try:
            yield
        except BaseException:
            if not under_way.now.ended:
                self._take_back(under_way)
                under_way.task = asyncio.create_task(self._run(under_way))
            raise

    def forget(self, collection: Collection) -> UnderWay | None:
        """Forgets the rollout of a deleted collection, and returns it for the caller to shut."""
        under_way = self._under_way.pop(collection.key, None)
        if under_way is not None:
            self._leave(under_way)
            under_way.tell(stage=RolloutStage.FAILED, reason="the collection was deleted")
        return under_way

    async def shut(self, under_way: UnderWay) -> None:
        """Removes what is left of a rollout that has ended without being promoted."""
        if under_way.candidate is not None:
            await self._collections.shut(under_way.candidate)
        else:
            await self._collections.release(under_way.opened.describer.version)

    async def stop(self) -> None:
        """Stops all rollouts under way; they continue at the next start."""
        for under_way in [*self._under_way.values()]:
            self._collections.end_trial(under_way.opened.generation)
            await cancel(under_way.task)

    async def _run(self, under_way: UnderWay) -> None:
        """Runs until the rollout is ready or has failed. Trouble that may pass, like a full disk, is retried."""
        name = under_way.collection.name
        while True:
            try:
                if under_way.closing is not None:
                    await asyncio.shield(under_way.closing)
                await self._build(under_way)
            except DeadlineExceeded as error:
                await self._fail(under_way, f"the version does not answer in time: {error}")
            except (RetryLater, CatalogError, IndexFailed, OSError) as error:
                log.warning("the rollout of %s waits: %s", name, error)
                under_way.tell(reason=f"it waits: {error}")
                self._take_back(under_way)
                await asyncio.sleep(_AGAIN_S)
                under_way.tell(reason="")
                continue
            except Exception as error:
                if not isinstance(error, PspsearchError):
                    log.exception("the rollout of %s failed", name)
                told = str(error) if isinstance(error, PspsearchError) else "the server's log says why"
                await self._fail(under_way, told)
            return

    async def _build(self, under_way: UnderWay) -> None:
        opened = under_way.opened
        await self._describe(under_way)
        under_way.tell(stage=RolloutStage.INDEXING)
        # Files that an earlier run left do not know the rows filled in since.
        await self._collections.discard(opened.generation)
        under_way.candidate = candidate = await self._collections.prepare(under_way.collection, opened)
        self._keepers.begin(opened)
        under_way.tell(stage=RolloutStage.CHECKING)
        with self._collections.get(under_way.collection.name).in_use() as active:
            checks = await self._gate.check(active, candidate)
        under_way.tell(checks=checks)
        failed = [check for check in checks if not check.passed]
        if failed:
            told = "; ".join(f"{one.name} is {one.value:.3g}, bound {one.bound:.3g} ({one.words})" for one in failed)
            await self._fail(under_way, f"the gate refused it: {told}")
            return
        ready = replace(under_way.now, stage=RolloutStage.READY)
        await self._catalog.note_generation(opened.generation, ready.details)
        under_way.tell(stage=RolloutStage.READY)
        self._try_out(under_way)
        if under_way.now.options.automatic:
            async with self._collections.turn:
                if under_way.now.ended:
                    return  # another call ended it first
                try:
                    await self.promote(under_way)
                except RolloutRefused as error:  # it waits for the operator
                    under_way.tell(reason=str(error))

    async def _describe(self, under_way: UnderWay) -> None:
        counted = await self._catalog.count_lacking(under_way.opened.generation)
        before = under_way.now.described  # by an attempt that broke off
        under_way.tell(total=before + counted.with_image, missing=counted.without_image)
        started = time.monotonic()

        def told(count: int) -> None:
            described = under_way.now.described + count
            per_second = (described - before) / max(1e-9, time.monotonic() - started)
            under_way.tell(described=described, total=max(under_way.now.total, described), per_second=per_second)

        pace = Pace(under_way.now.options.share, self._settings.rollout_strain, self._latencies)
        unreadable = await self._filler.fill(under_way.opened, pace, told, renew=False)
        under_way.tell(missing=counted.without_image + unreadable)

    def _try_out(self, under_way: UnderWay) -> None:
        """Begins the trial that the options ask for, if the rollout is ready."""
        self._collections.end_trial(under_way.opened.generation)
        options, candidate = under_way.now.options, under_way.candidate
        if candidate is not None and under_way.now.stage is RolloutStage.READY and (options.canary or options.shadow):
            self._collections.begin_trial(Trial(candidate, options.canary, options.shadow, self._latencies))

    def _take_back(self, under_way: UnderWay) -> None:
        """Removes what was built, so that another attempt can begin."""
        candidate, under_way.candidate = under_way.candidate, None
        if candidate is not None:
            under_way.tell(stage=RolloutStage.DESCRIBING)
            self._collections.end_trial(candidate.generation)
            self._keepers.stop(candidate.generation)
            under_way.closing = self._collections.finish(self._collections.shut(candidate))

    async def _fail(self, under_way: UnderWay, reason: str) -> None:
        """Ends the rollout as failed, as soon as the catalog can be written to.

        Meanwhile an operator may have ended it in another way, or may even have promoted it.
        """
        while True:
            async with self._collections.turn:
                if self.find(under_way.collection) is not under_way:
                    return None
                try:
                    return await self._end(under_way, reason)
                except RetryLater as error:
                    log.warning("generation %d cannot be ended yet: %s", under_way.opened.generation.key, error)
            await asyncio.sleep(_AGAIN_S)

    async def _end(self, under_way: UnderWay, reason: str) -> None:
        """Ends the rollout as failed, in the catalog first.

        Raises RetryLater, with nothing changed, if that takes no writes.
        """
        failed = replace(self.moment(under_way), stage=RolloutStage.FAILED, reason=reason)
        generation = under_way.opened.generation
        try:
            await self._catalog.end_generation(generation, GenerationState.FAILED, failed.details)
        except NotFound:
            log.info("generation %d went with its collection", generation.key)
        except CatalogError as error:  # the next start begins it again
            log.error("generation %d cannot be ended: %s", generation.key, error)  # noqa: TRY400 - a sentence
        self._leave(under_way)
        self._under_way.pop(under_way.collection.key, None)
        self._collections.finish(self.shut(under_way))
        under_way.tell(stage=RolloutStage.FAILED, reason=reason, tried=failed.tried)

    def _leave(self, under_way: UnderWay) -> None:
        self._collections.leave(under_way.collection, under_way.opened.generation)
        self._keepers.stop(under_way.opened.generation)
