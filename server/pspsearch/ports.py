"""What the core needs from outside, as protocols; adapters and fakes fill them.

A catalog fills several, one for each thing that it is asked about, so that whoever asks names only what it needs.
"""

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pspsearch.domain import (
    Collection,
    CollectionSettings,
    Commit,
    Delete,
    Deletion,
    Described,
    Descriptors,
    Filling,
    Found,
    Generation,
    GenerationRecord,
    GenerationState,
    IndexState,
    Inputs,
    Item,
    Lacking,
    Matched,
    ModelVersion,
    OfferedVersion,
    Row,
    Sequences,
    StoredDescriptor,
    Upsert,
    Written,
)
from pspsearch.errors import PspsearchError
from pspsearch.filters import Filter
from pspsearch.model.contract import Takes


class Describer(Protocol):
    """Turns inputs of one kind into descriptors, always with the same model version."""

    @property
    def version(self) -> ModelVersion:
        """The version that every answer comes from; its contract says which kind of inputs it takes."""
        ...

    @property
    def takes(self) -> Takes:
        """What it is given. One that decodes for a model of pixels takes images."""
        ...

    async def describe(self, inputs: Inputs, *, cells: bool = False, timeout_s: float | None = None) -> Described:
        """One unit row per input, in their order; with `cells` those of its cells, too, where the contract has any.

        Pixels are count x height x width x 3. The whole call takes at most `timeout_s`; cancelling it cancels the work
        that waits in Triton. Raises InvalidRequest for inputs of another kind or shape than the contract's,
        Overloaded, DeadlineExceeded or TritonUnavailable for what may pass, BrokenModel where the model breaks its
        promise.
        """
        ...


class Models(Protocol):
    """The model versions that can describe, wherever they run."""

    async def open(self, model: str, version: int | None) -> Describer:
        """Returns the only describer of that version, or of the highest that can be used.

        Raises ModelMismatch if there is no such version.
        """
        ...

    async def release(self, version: ModelVersion) -> None:
        """Releases a version that no collection needs any more; calls under way still have their answers."""
        ...

    async def look(self, model: str) -> Sequence[OfferedVersion]:
        """Looks for new versions, and returns all, ascending. Raises ModelMismatch for an unknown model."""
        ...

    async def served(self, model: str) -> list[ModelVersion]:
        """Returns every version of the model that can be used, ascending."""
        ...


class Items(Protocol):
    """Reads items: by id, by key, in their order, and what they carry."""

    async def items(self, collection: int, ids: Sequence[str]) -> dict[str, Item]:
        """Those that there are."""
        ...

    async def items_by_key(self, collection: int, keys: Sequence[int]) -> list[Item]:
        """Those that there still are, by ascending key."""
        ...

    async def page(self, collection: int, after_key: int, count: int) -> list[Item]:
        """The next items by ascending key."""
        ...

    async def lacking(self, generation: Generation, after_key: int, count: int) -> list[Item]:
        """The next items by ascending key that have no descriptor in the generation."""
        ...

    async def attributes(self, collection: int, sequences: Sequence[int]) -> dict[int, str]:
        """The JSON objects of the rows that are still current."""
        ...

    async def image(self, collection: int, id: str) -> bytes | None:  # noqa: A002 - the domain's word
        """The bytes as they came; None where there is no item or its image was not kept."""
        ...

    async def descriptor(self, generation: Generation, id: str) -> StoredDescriptor | None:  # noqa: A002
        """None where there is no item."""
        ...


class WritableItems(Items, Protocol):
    """Reads items and changes them.

    A change is durable on return, and searches that begin later see it: see `RowFeed.listen`.
    """

    async def write(
        self, generation: Generation, writes: Sequence[Upsert | Delete], *, request_id: str = "", asked: str = ""
    ) -> list[Written]:
        """Makes all the changes, in their order, or none; durable on return, and heard by the commit's listener.

        What arrives meanwhile from other callers is committed together. A request id that was written with before
        (within a day, to the same collection) changes nothing and gets the answer of that time, or InvalidRequest where
        something else was `asked` then: a name for what the caller wanted, whatever the writes are that come of it. The
        descriptors are of `generation`'s space, and each upsert's `others` of other ones: all generations that live get
        what is there for them. ModelChanged where the active one gets none. NotFound where the collection is gone.
        """
        ...

    async def deletion(self, generation: Generation, request_id: str, asked: str) -> Deletion | None:
        """How far a deletion came that had this request id within a day, None where there was none.

        InvalidRequest where something else was asked under that name.
        """
        ...

    async def delete_portion(
        self,
        generation: Generation,
        deletes: Sequence[Delete],
        so_far: Deletion,
        *,
        is_last: bool,
        request_id: str = "",
        asked: str = "",
    ) -> Deletion:
        """Makes these deletions or none; durable on return, with how far that is, and heard by the commit's listener.

        What is known of the request id counts, and not `so_far`: where it is done, nothing is deleted. Items after its
        last key stay. NotFound where the collection is gone, InvalidRequest as for `write`.
        """
        ...

    async def fill(self, generation: Generation, filled: Sequence[Filling], *, renew: bool) -> int:
        """Puts in descriptors that items lack; how many still had that image and no descriptor. Durable on return.

        With `renew` the items' rows get new sequences in all generations, which listeners hear of; without, nobody
        hears of it, and an index of the generation must be made afterwards. NotFound where the generation has ended.
        """
        ...


class Generations(Protocol):
    """The generations that each collection has and had, and what they lack."""

    async def generations(self, collection: int) -> list[GenerationRecord]:
        """All that there ever were, by key; none where the collection is gone."""
        ...

    async def begin_generation(self, collection: int, version: ModelVersion, details: str) -> Generation:
        """One that is being built, durable on return: writes that have descriptors for it reach it from now on.

        AlreadyExists where one is built already, NotFound where the collection is gone.
        """
        ...

    async def promote_generation(
        self, generation: Generation, since: int, details: str, *, lacking: bool = False
    ) -> bool:
        """Makes one that is built or kept the active one, and the active one the kept one, in one durable change.

        One that was kept until then is retired. False, with nothing changed, where an item with a kept image that
        changed after the sequence `since` has no descriptor in it, unless that may be. NotFound where it has ended.
        """
        ...

    async def end_generation(self, generation: Generation, state: GenerationState, details: str) -> None:
        """Makes one that is built or kept a retired or a failed one; durable on return. NotFound for any other."""
        ...

    async def note_generation(self, generation: Generation, details: str) -> None:
        """Keeps what there is to tell of it; durable on return."""
        ...

    async def count_lacking(self, generation: Generation) -> Lacking:
        """How many items have no descriptor in the generation."""
        ...


class CollectionRecords(Protocol):
    """Which collections there are, with their settings; opened or not."""

    async def collections(self) -> list[tuple[Collection, Generation]]:
        """All collections by name, each with its active generation."""
        ...

    async def create_collection(
        self, name: str, settings: CollectionSettings, version: ModelVersion
    ) -> tuple[Collection, Generation]:
        """A new, empty collection, durable on return; AlreadyExists where the name is taken."""
        ...

    async def delete_collection(self, collection: int) -> int:
        """Takes out a collection and all that is in it, and says how many items that were; durable on return.

        No listener hears of it. NotFound where the collection is gone.
        """
        ...

    async def set_follows(self, collection: int, *, follows: bool) -> None:
        """Keeps whether the collection is taken to new versions by itself; durable on return. NotFound where gone."""
        ...


class RowSource(Protocol):
    """The rows of one generation, to be read from any thread, one at a time."""

    def last_change(self) -> int:
        """The sequence of the catalog's last one, in whatever generation."""
        ...

    def sequences(self) -> Sequences:
        """Of every row there is, ascending."""
        ...

    def after(self, sequence: int) -> Iterator[Row]:
        """The rows that are there at the moment of the call and have a higher sequence, ascending.

        Those that a later commit removes may be missing, and those that it adds are: its listener has them.
        """
        ...


Listener = Callable[[Commit], Future[None] | None]
"""Hears of a commit, and says when searches see it: as `Index.apply`."""


class RowFeed(Protocol):
    """What indexes are built from, and what keeps them up to date."""

    def rows_of(self, generation: Generation) -> RowSource:
        """What an index of the generation is built from."""
        ...

    def listen(self, listener: Listener) -> None:
        """Calls `listener` in the writer's thread, in commit order, after each commit and before its acknowledgement.

        It must be quick and must not raise. A change, and any that is asked for later, is acknowledged when all futures
        that were given until then are done; the writer goes on meanwhile. To be called once, before the first write.
        """
        ...


class Storage(Protocol):
    """What holds all of it."""

    def size_bytes(self) -> int:
        """On disk."""
        ...

    async def failed(self) -> PspsearchError:
        """Waits until nothing can be written any more, and says why; whoever serves should end then."""
        ...

    async def close(self) -> None:
        """Finishes the writes that were begun; later calls are assertions."""
        ...


class Catalog(WritableItems, Generations, CollectionRecords, RowFeed, Storage, Protocol):
    """The truth: collections, items, images, descriptors. Every method may be called from any task of one event loop.

    Reads see every write that was acknowledged before they began.
    """


class Index(Protocol):
    """The rows of one generation, found by nearness. A cache of the catalog."""

    def apply(self, commit: Commit) -> Future[None] | None:
        """Takes one commit in, in commit order, from one thread at a time; quick, as all writes wait for it.

        Searches that begin later see it: after the return where that is None, else after the future is done. So an
        engine that takes its time may, and no write is acknowledged before. The future has no result and no error;
        where the rows cannot be had in the index for now, it is done all the same, and `check_current` says so.
        """
        ...

    def catch_up(self, commits: Sequence[Commit]) -> None:
        """Takes in commits that were made while the index was opened: what the opening has seen already is left out.

        They are all of its generation since before the opening began, in commit order. Before the first `apply`.
        Searches that begin after the return see them.
        """
        ...

    def check_current(self) -> None:
        """IndexBehind while it could not take in all that it was given: no write may be acknowledged then."""
        ...

    async def search(self, queries: Descriptors, count: int, where: Filter | None = None) -> list[Found]:
        """For each query the `count` nearest rows that `where` holds for, fewer where there are fewer.

        All answers are as of one moment. Searches that wait for one that runs are made together.
        """
        ...

    async def count(self, where: Filter | None = None) -> int:
        """How many rows `where` holds for, of all where it is None."""
        ...

    def match(self, where: Filter, page_size: int, after_key: int = 0) -> AsyncGenerator[Matched]:
        """The rows that `where` holds for, of items with higher keys, by ascending key: all as of one moment.

        They come in pages of so many, the last one shorter; at least one page, which may be empty.
        """
        ...

    async def sample(self, count: int) -> Matched:
        """So many rows, drawn evenly; all of them where there are fewer."""
        ...

    async def contains(self, sequences: Sequences) -> NDArray[np.bool_]:
        """Whether there is a row of each of these sequences."""
        ...

    async def descriptors(self, sequences: Iterable[int]) -> Descriptors:
        """Of rows that an answer named, in that order, although they may be gone since.

        A minute after they are gone it may raise NotFound.
        """
        ...

    @property
    def state(self) -> IndexState:
        """How it stands now."""
        ...

    async def close(self) -> None:
        """Stops what is being built, leaves what makes the next opening quick, and lets go of the memory."""
        ...


class IndexEngine(Protocol):
    """Has an index of each generation that can answer."""

    async def open(self, generation: Generation, settings: CollectionSettings, rows: RowSource) -> Index:
        """The index of a generation, with all its rows; one that was open before may have left most of them.

        Commits made meanwhile are for `Index.catch_up`. IndexFailed where it cannot be had, and what `rows` raises.
        """
        ...

    async def drop(self, generation: Generation) -> None:
        """Leaves nothing of the generation's index, if there is one; it must not be open."""
        ...
