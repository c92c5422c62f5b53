"""The collections that are open, each with what answers for it."""

import asyncio
import contextlib
import copy
import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Protocol

from pspsearch.domain import DEFAULT_COLLECTION, Collection, CollectionSettings, Commit, Generation, ModelVersion
from pspsearch.errors import InvalidRequest, ModelMismatch, NotFound, PspsearchError
from pspsearch.live.commit_queue import CommitQueue
from pspsearch.live.finishing import Finisher, to_its_end
from pspsearch.live.live import Live, OpenGeneration
from pspsearch.live.trial import Trial
from pspsearch.model.contract import Takes
from pspsearch.ports import CollectionRecords, Describer, Generations, IndexEngine, RowFeed

log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

OpenDescriber = Callable[[str, int | None], Awaitable[Describer]]
"""The describer of a model's version, the highest for None; the same one for the same version."""

ReleaseDescriber = Callable[[ModelVersion], Awaitable[None]]
"""Lets go of a describer that no collection needs."""


class CollectionCatalog(CollectionRecords, Generations, RowFeed, Protocol):
    """What open collections need of a catalog."""


@dataclass(frozen=True, slots=True)
class _Unopened:
    """A collection that nothing can answer for."""

    collection: Collection
    error: PspsearchError


def check_model_name(name: str) -> None:
    """InvalidRequest for one that could be anything else: Triton, and whoever looks at its files, make a path of it."""
    if not _MODEL.fullmatch(name):
        raise InvalidRequest(
            f"a model's name is 1 to 128 letters, digits and '._-', the first a letter or a digit, not {name[:80]!r}"
        )


def check_takes_images(version: ModelVersion) -> None:
    """ModelMismatch for a model of texts: a collection holds images."""
    if version.contract.takes is Takes.TEXT:
        raise ModelMismatch(f"{version} takes texts, and a collection needs a model that takes images")


class Collections(Finisher):
    """Opens, hands out, creates and deletes collections; for the tasks of one event loop."""

    def __init__(
        self,
        catalog: CollectionCatalog,
        open_describer: OpenDescriber,
        release_describer: ReleaseDescriber,
        engine: IndexEngine,
    ) -> None:
        super().__init__()
        self._catalog = catalog
        self._open_describer = open_describer
        self._release_describer = release_describer
        self._engine = engine
        self._live: dict[str, Live] = {}
        self._unopened: dict[str, _Unopened] = {}
        self._trials: dict[str, Trial] = {}
        self._queues: dict[int, CommitQueue] = {}
        self._creating = asyncio.Lock()
        self.turn = asyncio.Lock()
        """Of whoever changes which generation answers for a collection; never held while callers are waited for."""
        catalog.listen(self._apply)

    async def open(self) -> None:
        """Opens every collection of the catalog, one after the other. To be awaited before anything else.

        One that cannot be opened, because its model version is not served, answers with the reason; the others serve.
        """
        for collection, generation in await self._catalog.collections():
            with contextlib.suppress(PspsearchError):
                await self._open(collection, generation)

    @contextlib.asynccontextmanager
    async def use(self, name: str) -> AsyncGenerator[Live]:
        """The collection for one call: it is not closed before the block ends. NotFound where there is none."""
        with self.get(name).in_use() as live:
            yield live

    def get(self, name: str) -> Live:
        """The collection as it is now, `default` for an empty name; NotFound where there is none."""
        name = name or DEFAULT_COLLECTION
        if name in self._unopened:
            raise copy.copy(self._unopened[name].error)  # the same one would gather the frames of all its callers
        live = self._live.get(name)
        if live is None:
            raise NotFound(f"there is no collection {name!r}")
        return live

    def all(self) -> list[Live]:
        """All that are open, by name; from any thread."""
        return [live for _, live in sorted(self._live.items())]

    def trial(self, name: str) -> Trial | None:
        """What is tried with the collection's live searches before it may answer."""
        return self._trials.get(name or DEFAULT_COLLECTION)

    def begin_trial(self, trial: Trial) -> None:
        """From now on calls take part in it."""
        self._trials[trial.candidate.collection.name] = trial

    def end_trial(self, generation: Generation) -> None:
        """The one of that generation, where there is one."""
        for name, trial in list(self._trials.items()):
            if trial.candidate.generation.key == generation.key:
                self._trials.pop(name).end()

    @to_its_end
    async def create(self, name: str, settings: CollectionSettings) -> Live:
        """A new, empty collection, under the highest version of its model; durable on return."""
        if not _NAME.fullmatch(name):
            raise InvalidRequest(
                f"a collection's name is 1 to 64 letters, digits, '-' and '_', the first a letter or a digit, "
                f"not {name[:80]!r}"
            )
        check_model_name(settings.model)
        if not 0 < settings.target_recall <= 1:
            raise InvalidRequest(f"target_recall must be above 0 and at most 1, not {settings.target_recall}")
        async with self._creating:
            describer = await self._open_describer(settings.model, None)
            check_takes_images(describer.version)
            collection, generation = await self._catalog.create_collection(name, settings, describer.version)
            return await self._open(collection, generation)

    async def create_missing(self, name: str, settings: CollectionSettings) -> None:
        """Where there is none of that name, open or not."""
        if name not in self._live and name not in self._unopened:
            await self.create(name, settings)

    @to_its_end
    async def set_follows(self, name: str, *, follows: bool) -> Live:
        """Whether the collection is taken to new versions of its model by itself; durable on return."""
        live = self.get(name)
        await self._catalog.set_follows(live.collection.key, follows=follows)
        live = self.get(name)
        return self._put(replace(live, collection=replace(live.collection, follows=follows)))

    @to_its_end
    async def delete(self, name: str, ending: Callable[[Live], AbstractAsyncContextManager[object]]) -> int:
        """Takes a collection out, and says how many items were in it; calls under way finish first.

        `ending` is entered in the `turn`, and left later. Where the catalog cannot do it,
        its block raises, and the collection stays as it was.
        """
        name = name or DEFAULT_COLLECTION
        if name in self._unopened:
            return await self._delete_unopened(name)
        async with contextlib.AsyncExitStack() as stack:
            async with self.turn:
                await stack.enter_async_context(ending(self.get(name)))
                live = self._live.pop(name)  # from now on there is no such collection for calls, nor for rollouts
            try:
                await live.usage.ended()
                count = await self._catalog.delete_collection(live.collection.key)
            except BaseException:
                live.usage.go_on()
                self._put(live)
                for opened in live.beside:
                    opened.lags.set()  # a write that ended meanwhile may not have been described for it
                raise
        await self.shut(live)
        return count

    async def open_describer(self, generation: Generation) -> Describer:
        """What describes for a generation; ModelMismatch where its version is not served, or is another one by now."""
        describer = await self._open_describer(generation.model, generation.version)
        if describer.version.contract.fingerprint != generation.fingerprint:
            raise ModelMismatch(
                f"{describer.version} is not what it was: its space is {describer.version.contract.fingerprint}, and "
                f"the descriptors of generation {generation.key} are of {generation.fingerprint}"
            )
        return describer

    async def prepare(self, collection: Collection, opened: OpenGeneration) -> Live:
        """A generation beside the active one, ready to answer; writes may go on meanwhile."""
        queue = self._queues[opened.generation.key] = CommitQueue()
        try:
            rows = self._catalog.rows_of(opened.generation)
            index = await self._engine.open(opened.generation, collection.settings, rows)
            try:
                await asyncio.to_thread(queue.connect, index)
            except BaseException:
                await index.close()
                raise
        except BaseException:
            del self._queues[opened.generation.key]
            raise
        return Live(collection, opened, index)

    async def discard(self, generation: Generation) -> None:
        """What is left of its index; it must not be open."""
        await self._engine.drop(generation)

    def beside(self, collection: Collection) -> tuple[OpenGeneration, ...]:
        """The generations beside the active one that writes are to reach now; none where the collection is gone."""
        live = self._present(collection)
        return () if live is None else live.beside

    def join(self, collection: Collection, opened: OpenGeneration) -> None:
        """From now on writes to the collection reach this generation, too."""
        live = self.get(collection.name)
        self._put(replace(live, beside=(*live.beside, opened)))

    def leave(self, collection: Collection, generation: Generation) -> None:
        """From now on neither writes nor tried searches reach this generation; the collection may be gone."""
        self.end_trial(generation)
        live = self._present(collection)
        if live is not None:
            self._put(replace(live, beside=_without(live.beside, generation)))

    def switch(self, to: Live) -> Live:
        """From now on this one answers for its collection, and what answered until now, the result, is beside it.

        Calls under way keep the one that they have.
        """
        self.end_trial(to.generation)
        old = self.get(to.collection.name)
        beside = (*_without(old.beside, to.generation), old.opened)
        self._put(replace(to, collection=old.collection, beside=beside))
        return old

    async def shut(self, live: Live) -> None:
        """Waits until no call has it any more, and leaves nothing of its index."""
        await live.usage.ended()
        del self._queues[live.generation.key]
        await live.index.close()
        await self._engine.drop(live.generation)
        await self.release(live.describer.version)

    async def release(self, version: ModelVersion) -> None:
        """Of a generation that is gone: lets go of what described for it, unless another one needs it."""
        async with self._creating:  # a collection that is being made may have it
            opened = [opened for live in self._live.values() for opened in (live.opened, *live.beside)]
            if version not in [opened.describer.version for opened in opened]:
                await self._release_describer(version)

    async def close(self) -> None:
        """Closes every index; no call may be under way."""
        await self.finished()
        for live in self._live.values():
            await live.index.close()
        self._live.clear()

    async def _delete_unopened(self, name: str) -> int:
        async with self._creating:
            if name not in self._unopened:
                raise NotFound(f"there is no collection {name!r}")  # somebody was quicker
            collection = self._unopened[name].collection
            generations = await self._catalog.generations(collection.key)
            count = await self._catalog.delete_collection(collection.key)
            del self._unopened[name]
        for record in generations:
            await self._engine.drop(record.generation)
        return count

    async def _open(self, collection: Collection, generation: Generation) -> Live:
        try:
            live = await self.prepare(collection, OpenGeneration(generation, await self.open_describer(generation)))
        except PspsearchError as error:
            log.error("collection %s cannot be opened: %s", collection.name, error)  # noqa: TRY400 - a sentence
            without_frames = copy.copy(error)  # they have what was read until then
            self._unopened[collection.name] = _Unopened(collection, without_frames)
            raise
        log.info("collection %s: %d items, %s", collection.name, live.index.state.rows, live.index.state.plan)
        return self._put(live)

    def _put(self, live: Live) -> Live:
        """From now on calls take this one."""
        self._live[live.collection.name] = live
        return live

    def _present(self, collection: Collection) -> Live | None:
        """What answers for this very collection by now, and not for another one of its name."""
        live = self._live.get(collection.name)
        return live if live is not None and live.collection.key == collection.key else None

    def _apply(self, commit: Commit) -> Future[None] | None:
        """In the writer's thread. A generation that is still being described has nobody who listens."""
        queue = self._queues.get(commit.generation)
        return None if queue is None else queue.put(commit)


def _without(opened: Iterable[OpenGeneration], generation: Generation) -> tuple[OpenGeneration, ...]:
    return tuple(one for one in opened if one.generation.key != generation.key)
