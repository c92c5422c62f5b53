"""Opens, creates and deletes collections, and holds what answers for each."""

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
"""Returns the describer of a model version, or of the highest version for None; always the same one for one version."""

ReleaseDescriber = Callable[[ModelVersion], Awaitable[None]]
"""Lets go of a describer that no collection needs any more."""


class CollectionCatalog(CollectionRecords, Generations, RowFeed, Protocol):
    """The parts of a catalog that open collections need."""


@dataclass(frozen=True, slots=True)
class _Unopened:
    """A collection that could not be opened, and the reason."""

    collection: Collection
    error: PspsearchError


def check_model_name(name: str) -> None:
    """Raises InvalidRequest for a bad model name.

    Triton, and tools that look at its files, build a path from the name, so it may contain nothing else.
    """
    if not _MODEL.fullmatch(name):
        raise InvalidRequest(
            f"a model's name is 1 to 128 letters, digits and '._-', the first a letter or a digit, not {name[:80]!r}"
        )


def check_takes_images(version: ModelVersion) -> None:
    """Raises ModelMismatch if the model takes texts, because a collection holds images."""
    if version.contract.takes is Takes.TEXT:
        raise ModelMismatch(f"{version} takes texts, and a collection needs a model that takes images")


class Collections(Finisher):
    """Opens, hands out, creates and deletes collections. Only tasks of one event loop may use it."""

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
        """Held by a task that changes which generation answers for a collection.

        Never held while waiting for calls to end.
        """
        catalog.listen(self._apply)

    async def open(self) -> None:
        """Opens every collection of the catalog, one after another. Must be awaited before anything else.

        A collection that cannot be opened, because its model version is not served, answers with the reason. The others
        serve.
        """
        for collection, generation in await self._catalog.collections():
            with contextlib.suppress(PspsearchError):
                await self._open(collection, generation)

    @contextlib.asynccontextmanager
    async def use(self, name: str) -> AsyncGenerator[Live]:
        """Keeps the collection open until the block ends. Raises NotFound if it does not exist."""
        with self.get(name).in_use() as live:
            yield live

    def get(self, name: str) -> Live:
        """Returns the collection as it is now; an empty name means `default`. Raises NotFound if it does not exist."""
        name = name or DEFAULT_COLLECTION
        if name in self._unopened:
            raise copy.copy(self._unopened[name].error)  # one shared error would gather the frames of all its callers
        live = self._live.get(name)
        if live is None:
            raise NotFound(f"there is no collection {name!r}")
        return live

    def all(self) -> list[Live]:
        """Returns all open collections, sorted by name. May be called from any thread."""
        return [live for _, live in sorted(self._live.items())]

    def trial(self, name: str) -> Trial | None:
        """Returns the trial of a candidate generation with the collection's live searches, or None."""
        return self._trials.get(name or DEFAULT_COLLECTION)

    def begin_trial(self, trial: Trial) -> None:
        """Starts a trial: from now on calls take part in it."""
        self._trials[trial.candidate.collection.name] = trial

    def end_trial(self, generation: Generation) -> None:
        """Ends the trial of the generation, if there is one."""
        for name, trial in list(self._trials.items()):
            if trial.candidate.generation.key == generation.key:
                self._trials.pop(name).end()

    @to_its_end
    async def create(self, name: str, settings: CollectionSettings) -> Live:
        """Creates an empty collection with the highest version of its model. It is durable on return."""
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
        """Creates the collection if the name is free; a collection that could not be opened holds its name."""
        if name not in self._live and name not in self._unopened:
            await self.create(name, settings)

    @to_its_end
    async def set_follows(self, name: str, *, follows: bool) -> Live:
        """Sets whether the collection follows its model to new versions by itself. The setting is durable on return."""
        live = self.get(name)
        await self._catalog.set_follows(live.collection.key, follows=follows)
        live = self.get(name)
        return self._put(replace(live, collection=replace(live.collection, follows=follows)))

    @to_its_end
    async def delete(self, name: str, ending: Callable[[Live], AbstractAsyncContextManager[object]]) -> int:
        """Deletes a collection after the calls under way have finished, and returns how many items it had.

        `ending` is entered under `turn` and left after the deletion. If the catalog cannot delete the collection, the
        error is raised inside the `ending` block and the collection stays as it was.
        """
        name = name or DEFAULT_COLLECTION
        if name in self._unopened:
            return await self._delete_unopened(name)
        async with contextlib.AsyncExitStack() as stack:
            async with self.turn:
                await stack.enter_async_context(ending(self.get(name)))
                live = self._live.pop(name)  # from now on neither calls nor rollouts find the collection
            try:
                await live.usage.ended()
                count = await self._catalog.delete_collection(live.collection.key)
            except BaseException:
                live.usage.go_on()
                self._put(live)
                for opened in live.beside:
                    opened.lags.set()  # a write that ended meanwhile may lack a descriptor for this generation
                raise
        await self.shut(live)
        return count

    async def open_describer(self, generation: Generation) -> Describer:
        """Returns the describer of a generation.

        Raises ModelMismatch if its version is not served, or no longer gives descriptors of the generation's space.
        """
        describer = await self._open_describer(generation.model, generation.version)
        contract = describer.version.contract
        if (contract.fingerprint, contract.dimension) != (generation.fingerprint, generation.dimension):
            raise ModelMismatch(
                f"{describer.version} is not what it was: its space is {contract.fingerprint}, and "
                f"the descriptors of generation {generation.key} are of {generation.fingerprint}"
            )
        return describer

    async def prepare(self, collection: Collection, opened: OpenGeneration) -> Live:
        """Opens the index of a generation so that it can answer. Writes may go on meanwhile."""
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
        """Removes what is left of the generation's index, which must not be open."""
        await self._engine.drop(generation)

    def beside(self, collection: Collection) -> tuple[OpenGeneration, ...]:
        """Returns the generations that writes must reach besides the active one; none if the collection is gone."""
        live = self._present(collection)
        return () if live is None else live.beside

    def join(self, collection: Collection, opened: OpenGeneration) -> None:
        """Makes writes to the collection reach this generation, too, from now on."""
        live = self.get(collection.name)
        self._put(replace(live, beside=(*live.beside, opened)))

    def leave(self, collection: Collection, generation: Generation) -> None:
        """Stops writes and trial searches from reaching this generation from now on. The collection may be gone."""
        self.end_trial(generation)
        live = self._present(collection)
        if live is not None:
            self._put(replace(live, beside=_without(live.beside, generation)))

    def switch(self, to: Live) -> Live:
        """Makes this generation the one that answers, and returns the one that answered before, which stays beside it.

        Calls under way keep the one that they have.
        """
        self.end_trial(to.generation)
        old = self.get(to.collection.name)
        beside = (*_without(old.beside, to.generation), old.opened)
        self._put(replace(to, collection=old.collection, beside=beside))
        return old

    async def shut(self, live: Live) -> None:
        """Waits until no call uses the generation, then closes its index and removes the files."""
        await live.usage.ended()
        del self._queues[live.generation.key]
        await live.index.close()
        await self._engine.drop(live.generation)
        await self.release(live.describer.version)

    async def release(self, version: ModelVersion) -> None:
        """Lets go of the describer of a generation that is gone, unless another generation needs it."""
        async with self._creating:  # a collection that is being created may use it
            opened = [opened for live in self._live.values() for opened in (live.opened, *live.beside)]
            if version not in [opened.describer.version for opened in opened]:
                await self._release_describer(version)

    async def close(self) -> None:
        """Closes every index. No call may be under way."""
        await self.finished()
        for live in self._live.values():
            await live.index.close()
        self._live.clear()

    async def _delete_unopened(self, name: str) -> int:
        async with self._creating:
            if name not in self._unopened:
                raise NotFound(f"there is no collection {name!r}")  # another call deleted it first
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
            without_frames = copy.copy(error)  # the frames hold what was read until the error
            self._unopened[collection.name] = _Unopened(collection, without_frames)
            raise
        log.info("collection %s: %d items, %s", collection.name, live.index.state.rows, live.index.state.plan)
        return self._put(live)

    def _put(self, live: Live) -> Live:
        """Makes calls take this one from now on."""
        self._live[live.collection.name] = live
        return live

    def _present(self, collection: Collection) -> Live | None:
        """Returns what answers for this very collection now, not for a later one of the same name."""
        live = self._live.get(collection.name)
        return live if live is not None and live.collection.key == collection.key else None

    def _apply(self, commit: Commit) -> Future[None] | None:
        """Called in the writer's thread.

        A generation that is still being described has no queue, because no index listens yet.
        """
        queue = self._queues.get(commit.generation)
        return None if queue is None else queue.put(commit)


def _without(opened: Iterable[OpenGeneration], generation: Generation) -> tuple[OpenGeneration, ...]:
    return tuple(one for one in opened if one.generation.key != generation.key)
