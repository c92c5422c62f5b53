"""All rollouts of the server: begins them, carries them through, and takes them back."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from pspsearch.config import RolloutSettings
from pspsearch.domain import Collection, Generation, GenerationRecord, GenerationState, OfferedVersion, RolloutStage
from pspsearch.errors import (
    CatalogError,
    DeadlineExceeded,
    IndexFailed,
    InvalidRequest,
    ModelMismatch,
    NotFound,
    PspsearchError,
    RetryLater,
    RolloutRefused,
)
from pspsearch.live.collections import Collections, OpenDescriber, check_model_name
from pspsearch.live.finishing import Finisher, to_its_end
from pspsearch.live.latencies import Latencies
from pspsearch.live.live import Live, OpenGeneration
from pspsearch.live.trial import Trial, Tried
from pspsearch.ports import Describer, Generations
from pspsearch.rollout.checks import Gate
from pspsearch.rollout.filling import Filler, Pace
from pspsearch.rollout.rollout import Rollout, RolloutOptions

log = logging.getLogger(__name__)

Look = Callable[[str], Awaitable[Sequence[OfferedVersion]]]
"""Looks into the model repository for the versions of a model, which are ready to describe if they can be."""

_TRIED_S = 1.0
"""Between two moments of a rollout that takes part in live searches."""

_AGAIN_S = 5.0
"""Before what may have passed is tried again."""

_ATTEMPTS = 100
"""To promote while writes come that could not be described at once."""


@dataclass(eq=False, slots=True)
class _UnderWay:
    """A rollout that has not ended."""

    now: Rollout
    opened: OpenGeneration
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


class Rollouts(Finisher):
    """For the tasks of one event loop. At most one rollout of a collection is under way."""

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
        self._look = look
        self._open_describer = open_describer
        self._filler = filler
        self._gate = gate
        self._latencies = latencies
        self._settings = settings
        self._under_way: dict[int, _UnderWay] = {}
        """By collection, like the next."""
        self._kept: dict[int, Live] = {}
        self._keepers: dict[int, asyncio.Task[None]] = {}
        """By generation: what describes later what a write could not."""
        self._turn = collections.turn
        self._watching: asyncio.Task[None] | None = None
        self._told: set[tuple[str, int, str]] = set()
        """What was found in the repository, and is not news any more."""
        collections.deleting = self._deleting

    async def open(self) -> None:
        """Goes on with what was under way, and opens what is kept. After the collections, before any call."""
        for live in self._collections.all():
            for record in await self._catalog.generations(live.collection.key):
                await self._reopen(live, record)
        if self._settings.rollout_watch_s:
            self._watching = asyncio.create_task(self._watch_repository())

    @to_its_end
    async def start(self, collection: str, version: int | None, options: RolloutOptions) -> Rollout:
        """Begins one to that version of the collection's model, the highest for None; durable on return."""
        async with self._turn:
            live = self._collections.get(collection)
            describer = await self._choose(live.collection.settings.model, version)
            if describer.version.contract.fingerprint == live.generation.fingerprint:
                raise InvalidRequest(f"{describer.version} is what answers already")
            first = Rollout(live.collection.name, live.generation, options)
            try:
                generation = await self._catalog.begin_generation(live.collection.key, describer.version, first.details)
            except PspsearchError:
                await self._collections.release(describer.version)
                raise
            return self._begin(live, OpenGeneration(generation, describer), replace(first, generation=generation)).now

    async def get(self, collection: str) -> Rollout:
        """The one under way, or the last one that ended; NotFound where there was none."""
        live = self._collections.get(collection)
        if live.collection.key in self._under_way:
            return self._moment(self._under_way[live.collection.key])
        for record in reversed(await self._catalog.generations(live.collection.key)):
            rollout = Rollout.read(live.collection.name, record)
            if rollout is not None:
                return rollout
        raise NotFound(f"the collection {live.collection.name!r} has had no rollout")

    def under_way(self, collection: Collection) -> Rollout | None:
        """The one that has not ended."""
        under_way = self._under_way.get(collection.key)
        return None if under_way is None else self._moment(under_way)

    async def generations(self, collection: str) -> list[GenerationRecord]:
        """All of a collection, by number."""
        return await self._catalog.generations(self._collections.get(collection).collection.key)

    async def watch(self, collection: str) -> AsyncIterator[Rollout]:
        """Every change until it has ended; the last moment is the last one told."""
        live = self._collections.get(collection)
        under_way, told = self._under_way.get(live.collection.key), None
        while under_way is not None and not under_way.now.ended:
            changed = under_way.changed
            if (moment := self._moment(under_way)) != told:
                told = moment
                yield moment
            trial = self._collections.trial(collection)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), None if trial is None else _TRIED_S)
        yield under_way.now if under_way is not None else await self.get(collection)

    @to_its_end
    async def try_out(self, collection: str, canary: float, shadow: float) -> Rollout:
        """Lets a rollout take part in live searches, now if it is ready, with shares as `RolloutOptions` has them.

        0 ends it, and what was counted begins anew. RolloutRefused where none is under way.
        """
        async with self._turn:
            under_way = self._one_under_way(collection)
            options = replace(under_way.now.options, canary=canary, shadow=shadow)
            changed = replace(under_way.now, options=options)
            await self._catalog.note_generation(under_way.opened.generation, changed.details)
            under_way.tell(options=options, tried=Tried())
            self._try_out(under_way)
            return self._moment(under_way)

    @to_its_end
    async def promote(self, collection: str, *, drop_missing: bool = False) -> Rollout:
        """Makes a rollout that is ready the one that answers; RolloutRefused where it is not ready."""
        async with self._turn:
            under_way = self._one_under_way(collection)
            if under_way.candidate is None or under_way.now.stage is not RolloutStage.READY:
                raise RolloutRefused(
                    f"the rollout is {under_way.now.stage}, and only one that is ready can be promoted"
                )
            if drop_missing:
                under_way.tell(options=replace(under_way.now.options, drop_missing=True))
            await self._promote(under_way, under_way.candidate)
            return under_way.now

    @to_its_end
    async def abort(self, collection: str) -> Rollout:
        """Ends the rollout under way; what answers goes on answering."""
        async with self._turn:
            under_way = self._one_under_way(collection)
            async with self._stopped(self._collections.get(collection).collection, under_way):
                await self._end(under_way, "it was aborted")
            return under_way.now

    @to_its_end
    async def rollback(self, collection: str) -> Generation:
        """Makes the kept generation answer again, and keeps the other; RolloutRefused where none is kept."""
        async with self._turn:
            live = self._collections.get(collection)
            kept = self._kept.get(live.collection.key)
            if kept is None:
                raise RolloutRefused("no generation is kept that could answer")
            records = await self._catalog.generations(live.collection.key)
            details = next(one.details for one in records if one.generation == kept.generation)
            await self._flip(kept, details, live)
            return kept.generation

    @to_its_end
    async def retire(self, collection: str) -> Generation:
        """Lets go of the kept generation; RolloutRefused where none is kept."""
        async with self._turn:
            live = self._collections.get(collection)
            records = await self._catalog.generations(live.collection.key)
            record = next((one for one in records if one.state is GenerationState.KEPT), None)
            if record is None:
                raise RolloutRefused("no generation is kept")
            await self._catalog.end_generation(record.generation, GenerationState.RETIRED, record.details)
            self._leave(live, record.generation)
            kept = self._kept.pop(live.collection.key, None)
            if kept is not None:
                self._tidy(kept)
            return record.generation

    async def close(self) -> None:
        """Stops what is under way, to be gone on with at the next start."""
        await _cancel(self._watching)
        await self.finished()
        for under_way in self._under_way.values():
            self._collections.end_trial(under_way.opened.generation)
            await _cancel(under_way.task)
        for keeper in self._keepers.values():
            await _cancel(keeper)
        await self.finished()
        candidates = [one.candidate for one in self._under_way.values() if one.candidate is not None]
        for live in (*candidates, *self._kept.values()):
            await live.index.close()

    async def _reopen(self, live: Live, record: GenerationRecord) -> None:
        if record.state in (GenerationState.RETIRED, GenerationState.FAILED):
            await self._collections.discard(record.generation)  # the server may have gone down before it was tidied up
        if record.state not in (GenerationState.BUILDING, GenerationState.KEPT):
            return
        building = record.state is GenerationState.BUILDING
        rollout = Rollout.read(live.collection.name, record) if building else None
        try:
            opened = OpenGeneration(record.generation, await self._collections.open_describer(record.generation))
            if rollout is not None:
                self._begin(live, opened, replace(rollout, stage=RolloutStage.DESCRIBING, checks=()))
            else:
                self._kept[live.collection.key] = await self._collections.prepare(live.collection, opened)
                self._join(live, opened)
                opened.lags.set()  # a write may have lagged when the server went down
                self._keep_up(opened)
        except PspsearchError as error:
            log.error("generation %d cannot go on: %s", record.generation.key, error)  # noqa: TRY400 - a sentence
            if rollout is not None and not isinstance(error, RetryLater):
                failed = replace(rollout, stage=RolloutStage.FAILED, reason=str(error))
                await self._catalog.end_generation(record.generation, GenerationState.FAILED, failed.details)

    async def _watch_repository(self) -> None:
        while True:
            await asyncio.sleep(self._settings.rollout_watch_s)
            for model in sorted({live.collection.settings.model for live in self._collections.all()}):
                try:
                    await self.look_for_news(model)
                except PspsearchError as error:
                    log.warning("the versions of %s cannot be looked at: %s", model, error)

    async def look(self, model: str) -> Sequence[OfferedVersion]:
        """The versions of a model, after a look into the repository."""
        check_model_name(model)
        return await self._look(model)

    async def look_for_news(self, model: str) -> None:
        """Looks into the repository, and takes the collections that follow to the highest version, each only once."""
        offered = await self.look(model)
        for one in offered:
            news = (model, one.version, one.reason)
            if news not in self._told:
                self._told.add(news)
                log.info("%s/%d is there%s", *news[:2], f", and cannot be used: {one.reason}" if one.reason else "")
        best = max((one for one in offered if not one.reason), key=lambda one: one.version, default=None)
        for live in self._collections.all():
            if best is not None and live.collection.settings.model == model and live.collection.follows:
                await self._follow(live, best)

    async def _follow(self, live: Live, best: OfferedVersion) -> None:
        """Not to a version that it had before: it may have failed, or have been taken back."""
        if live.collection.key in self._under_way or best.version <= live.generation.version or best.contract is None:
            return
        records = await self._catalog.generations(live.collection.key)
        if best.contract.fingerprint in {record.generation.fingerprint for record in records}:
            return
        try:
            await self.start(live.collection.name, best.version, RolloutOptions(automatic=True))
        except PspsearchError as error:
            log.warning("%s cannot follow to version %d: %s", live.collection.name, best.version, error)

    async def _choose(self, model: str, version: int | None) -> Describer:
        offered = {one.version: one for one in await self.look(model)}
        usable = [number for number, one in offered.items() if not one.reason]
        chosen = max(usable, default=None) if version is None else version
        if chosen is None or chosen not in offered:
            wanted = "version that can be used" if version is None else f"version {version}"
            raise ModelMismatch(f"the model repository has no {wanted} of {model}")
        if offered[chosen].reason:
            raise ModelMismatch(f"{model}/{chosen} cannot be used: {offered[chosen].reason}")
        return await self._open_describer(model, chosen)

    def _begin(self, live: Live, opened: OpenGeneration, rollout: Rollout) -> _UnderWay:
        self._join(live, opened)
        under_way = self._under_way[live.collection.key] = _UnderWay(rollout, opened)
        under_way.task = asyncio.create_task(self._run(live.collection, under_way))
        return under_way

    async def _run(self, collection: Collection, under_way: _UnderWay) -> None:
        """Until it is ready or has failed; what may pass, like a full disk, is tried again."""
        while True:
            try:
                if under_way.closing is not None:
                    await asyncio.shield(under_way.closing)
                await self._build(collection, under_way)
            except DeadlineExceeded as error:
                await self._fail(under_way, f"the version does not answer in time: {error}")
            except (RetryLater, CatalogError, IndexFailed, OSError) as error:
                log.warning("the rollout of %s waits: %s", collection.name, error)
                under_way.tell(reason=f"it waits: {error}")
                self._take_back(under_way)
                await asyncio.sleep(_AGAIN_S)
                under_way.tell(reason="")
                continue
            except Exception as error:
                if not isinstance(error, PspsearchError):
                    log.exception("the rollout of %s failed", collection.name)
                told = str(error) if isinstance(error, PspsearchError) else "the server's log says why"
                await self._fail(under_way, told)
            return

    def _take_back(self, under_way: _UnderWay) -> None:
        """Leaves nothing of what was built, for another attempt."""
        candidate, under_way.candidate = under_way.candidate, None
        if candidate is not None:
            under_way.tell(stage=RolloutStage.DESCRIBING)
            self._collections.end_trial(candidate.generation)
            self._stop_keeper(candidate.generation)
            under_way.closing = self.finish(self._collections.shut(candidate))

    @contextlib.asynccontextmanager
    async def _stopped(self, collection: Collection, under_way: _UnderWay | None) -> AsyncGenerator[None]:
        """The block ends it; where that fails, it goes on, unless it waits for its operator."""
        if under_way is None or under_way.task is None or under_way.task.done():
            yield
            return
        await _cancel(under_way.task)
        try:
            yield
        except BaseException:
            if not under_way.now.ended:
                self._take_back(under_way)
                under_way.task = asyncio.create_task(self._run(collection, under_way))
            raise

    async def _build(self, collection: Collection, under_way: _UnderWay) -> None:
        opened = under_way.opened
        await self._describe(under_way)
        under_way.tell(stage=RolloutStage.INDEXING)
        await self._collections.discard(opened.generation)  # of a run before: it knows nothing of what was filled in
        under_way.candidate = candidate = await self._collections.prepare(collection, opened)
        self._keep_up(opened)
        under_way.tell(stage=RolloutStage.CHECKING)
        checks = await self._gate.check(self._collections.get(collection.name), candidate)
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
            async with self._turn:
                if under_way.now.ended:
                    return  # somebody was quicker
                try:
                    await self._promote(under_way, candidate)
                except RolloutRefused as error:  # it waits for the operator
                    under_way.tell(reason=str(error))

    async def _describe(self, under_way: _UnderWay) -> None:
        counted = await self._catalog.count_lacking(under_way.opened.generation)
        under_way.tell(total=counted.with_image, missing=counted.without_image)
        started = time.monotonic()

        def told(count: int) -> None:
            described = under_way.now.described + count
            per_second = described / max(1e-9, time.monotonic() - started)
            under_way.tell(described=described, total=max(under_way.now.total, described), per_second=per_second)

        pace = Pace(under_way.now.options.share, self._settings.rollout_strain, self._latencies)
        unreadable = await self._filler.fill(under_way.opened, pace, told, renew=False)
        under_way.tell(missing=counted.without_image + unreadable)

    async def _promote(self, under_way: _UnderWay, candidate: Live) -> None:
        generation = candidate.generation
        unreadable, counted = 0, await self._catalog.count_lacking(generation)
        if counted.with_image:
            unreadable = await self._fill_up(candidate.opened)
            counted = await self._catalog.count_lacking(generation)
        missing = counted.without_image + unreadable
        under_way.tell(missing=missing)
        if missing and not under_way.now.options.drop_missing:
            raise RolloutRefused(
                f"{missing} items have no kept image, or one that cannot be read any more, and cannot be described by "
                "the new version: put them in again, or promote without them"
            )
        promoted = replace(self._moment(under_way), stage=RolloutStage.PROMOTED)
        await self._flip(candidate, promoted.details, self._collections.get(candidate.collection.name))
        del self._under_way[candidate.collection.key]
        under_way.tell(stage=RolloutStage.PROMOTED, tried=promoted.tried)

    async def _flip(self, to: Live, details: str, old: Live) -> None:
        """The one durable change, and then the one that is seen."""
        generation, unreadable = to.generation, 0
        for _ in range(_ATTEMPTS):
            counted = await self._catalog.count_lacking(generation)
            if counted.with_image > unreadable:
                unreadable = await self._fill_up(to.opened)
            elif await self._catalog.promote_generation(generation, counted.sequence, details):
                break
        else:
            raise RolloutRefused("writes come in faster than the new version describes them: try again")
        # from here on there is no await: no call sees one change without the other
        kept = self._kept.pop(to.collection.key, None)
        gone = [generation.key] if kept is None else [generation.key, kept.generation.key]
        to.others = (*(opened for opened in old.others if opened.generation.key not in gone), old.opened)
        self._collections.switch(to)
        self._kept[to.collection.key] = old
        if kept is not None and kept is not to:
            self._stop_keeper(kept.generation)
            self._tidy(kept)
        self._stop_keeper(generation)
        self._keep_up(old.opened)
        log.info("collection %s: answers from %s", to.collection.name, to.describer.version)

    async def _fail(self, under_way: _UnderWay, reason: str) -> None:
        """Where the catalog cannot be written to now, as soon as it can."""
        while True:
            try:
                return await self._end(under_way, reason)
            except RetryLater as error:
                log.warning("generation %d cannot be ended yet: %s", under_way.opened.generation.key, error)
            await asyncio.sleep(_AGAIN_S)

    async def _end(self, under_way: _UnderWay, reason: str) -> None:
        """As failed, in the catalog first; RetryLater where that takes nothing now, and nothing has changed."""
        failed = replace(self._moment(under_way), stage=RolloutStage.FAILED, reason=reason)
        generation = under_way.opened.generation
        try:
            await self._catalog.end_generation(generation, GenerationState.FAILED, failed.details)
        except NotFound:
            log.info("generation %d went with its collection", generation.key)
        except CatalogError as error:  # the next start begins it again
            log.error("generation %d cannot be ended: %s", generation.key, error)  # noqa: TRY400 - a sentence
        with contextlib.suppress(NotFound):
            self._leave(self._collections.get(failed.collection), generation)
        self._under_way.pop(generation.collection, None)
        self.finish(self._shut(under_way))
        under_way.tell(stage=RolloutStage.FAILED, reason=reason, tried=failed.tried)

    @contextlib.asynccontextmanager
    async def _deleting(self, live: Live) -> AsyncGenerator[None]:
        """The block deletes the collection; nothing of it is promoted meanwhile, and afterwards nothing is left.

        Entered in this object's turn, and left when that may be others'.
        """
        collection = live.collection
        under_way = self._under_way.get(collection.key)
        async with self._stopped(collection, under_way):
            yield
        if under_way is not None:
            self._under_way.pop(collection.key, None)
            under_way.tell(stage=RolloutStage.FAILED, reason="the collection was deleted")
        self._gate.forget(collection)
        kept = self._kept.pop(collection.key, None)
        for opened in live.others:
            self._leave(live, opened.generation)
        if kept is not None:
            await self._collections.shut(kept)
        if under_way is not None:
            await self._shut(under_way)

    async def _shut(self, under_way: _UnderWay) -> None:
        """Nothing is left of one that has ended without being promoted."""
        if under_way.candidate is not None:
            await self._collections.shut(under_way.candidate)
        else:
            await self._collections.release(under_way.opened.describer.version)

    def _one_under_way(self, collection: str) -> _UnderWay:
        live = self._collections.get(collection)
        under_way = self._under_way.get(live.collection.key)
        if under_way is None:
            raise RolloutRefused(f"no rollout of the collection {live.collection.name!r} is under way")
        return under_way

    def _try_out(self, under_way: _UnderWay) -> None:
        """As its options say, if it is ready."""
        self._collections.end_trial(under_way.opened.generation)
        options, candidate = under_way.now.options, under_way.candidate
        if candidate is not None and under_way.now.stage is RolloutStage.READY and (options.canary or options.shadow):
            self._collections.begin_trial(Trial(candidate, options.canary, options.shadow, self._latencies))

    def _moment(self, under_way: _UnderWay) -> Rollout:
        """With what is known of its trial by now."""
        trial = self._collections.trial(under_way.now.collection)
        return under_way.now if trial is None else replace(under_way.now, tried=trial.tried)

    def _join(self, live: Live, opened: OpenGeneration) -> None:
        """From now on writes reach it."""
        live.others = (*live.others, opened)

    def _leave(self, live: Live, generation: Generation) -> None:
        self._collections.end_trial(generation)
        live.others = tuple(opened for opened in live.others if opened.generation.key != generation.key)
        self._stop_keeper(generation)

    def _keep_up(self, opened: OpenGeneration) -> None:
        async def keep_up() -> None:
            while True:
                await opened.lags.wait()
                opened.lags.clear()
                try:
                    await self._fill_up(opened)
                except PspsearchError as error:
                    log.warning("generation %d lags behind: %s", opened.generation.key, error)
                    await asyncio.sleep(1)
                    opened.lags.set()

        self._keepers[opened.generation.key] = asyncio.create_task(keep_up())

    async def _fill_up(self, opened: OpenGeneration) -> int:
        """With what came late; how many items cannot be described, because their images cannot be read any more."""
        return await self._filler.fill(opened, Pace(1.0, float("inf"), self._latencies), lambda _: None, renew=True)

    def _stop_keeper(self, generation: Generation) -> None:
        keeper = self._keepers.pop(generation.key, None)
        if keeper is not None:
            keeper.cancel()

    def _tidy(self, live: Live) -> None:
        """When the calls that still have it are done."""
        self.finish(self._collections.shut(live))


async def _cancel(task: "asyncio.Task[None] | None") -> None:
    if task is not None:
        task.cancel()
        await asyncio.wait([task])
