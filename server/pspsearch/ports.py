"""What the core needs from outside, as protocols that adapters and fakes implement.

The catalog has several protocols, one per subject, so that each user names only what it needs.
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
    Urgency,
    Written,
)
from pspsearch.errors import PspsearchError
from pspsearch.filters import Filter
from pspsearch.model.contract import Takes


class Describer(Protocol):
    """Turns inputs of one kind into descriptors, always with the same model version."""

    @property
    def version(self) -> ModelVersion:
        """The version that every answer comes from. Its contract says which kind of inputs it takes."""
        ...

    @property
    def takes(self) -> Takes:
        """What it is given. One that decodes for a model of pixels takes images."""
        ...

    async def describe(
        self,
        inputs: Inputs,
        *,
        cells: bool = False,
        timeout_s: float | None = None,
        urgency: Urgency = Urgency.SEARCH,
    ) -> Described:
        """Returns one unit row per input, in order.

        With `cells` it also returns those of each input's cells, if the contract has any. Pixels are count x height x
        width x 3. The whole call takes at most `timeout_s`. A model that can choose prefers the urgent.
        Cancelling the call cancels the work that waits in Triton. Raises InvalidRequest for inputs of another kind or
        shape than the contract's; Overloaded, DeadlineExceeded or TritonUnavailable for trouble that may pass; and
        BrokenModel if the model breaks its promise.
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
    """Reads items and what they carry, by id or in the order of their keys."""

    async def items(self, collection: int, ids: Sequence[str]) -> dict[str, Item]:
        """Returns the items that exist, by id."""
        ...

    async def items_by_key(self, collection: int, keys: Sequence[int]) -> list[Item]:
        """Returns the items that still exist, by ascending key."""
        ...

    async def page(self, collection: int, after_key: int, count: int) -> list[Item]:
        """Returns the next items by ascending key."""
        ...

    async def lacking(self, generation: Generation, after_key: int, count: int) -> list[Item]:
        """Returns the next items by ascending key that have no descriptor in the generation."""
        ...

    async def attributes(self, collection: int, sequences: Sequence[int]) -> dict[int, str]:
        """Returns the JSON objects of the rows that are still current, by sequence."""
        ...

    async def image(self, collection: int, id: str) -> bytes | None:  # noqa: A002 - the domain's word
        """Returns the bytes as they came, or None if there is no such item or its image was not kept."""
        ...

    async def descriptor(self, generation: Generation, id: str) -> StoredDescriptor | None:  # noqa: A002
        """Returns the item's descriptor, or None if there is no such item."""
        ...


class WritableItems(Items, Protocol):
    """Reads items and changes them.

    A change is durable on return, and searches that begin later see it: see `RowFeed.listen`.
    """

    async def write(
        self, generation: Generation, writes: Sequence[Upsert | Delete], *, request_id: str = "", asked: str = ""
    ) -> list[Written]:
        """Makes all the changes in order, or none. They are durable on return, and the listener has heard of them.

        Changes that arrive meanwhile from other callers are committed together. A request id that was already used
        within a day in this collection changes nothing and gets the earlier answer. It raises InvalidRequest if `asked`
        differs: that is a name for what the caller wanted, whatever writes come of it.

        The descriptors are of `generation`'s space, and each upsert's `others` are of other spaces. Every live
        generation gets the descriptors given for it. Raises ModelChanged if there is none for the active one, and
        NotFound if the collection is gone.
        """
        ...

    async def deletion(self, generation: Generation, request_id: str, asked: str) -> Deletion | None:
        """Returns how far a deletion with this request id came within a day, or None if there was none.

        Raises InvalidRequest if something else was asked under that id.
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
        """Makes these deletions or none, and returns how far the whole deletion has come.

        The deletions are durable on return, and the listener has heard of them. What is stored under the request id
        counts, and not `so_far`: if the deletion is already done, nothing is deleted. Items after its last key stay.
        Raises NotFound if the collection is gone, and InvalidRequest as `write` does.
        """
        ...

    async def fill(self, generation: Generation, filled: Sequence[Filling], *, renew: bool) -> int:
        """Adds descriptors that items lack, and returns how many still had that image and no descriptor.

        The change is durable on return. With `renew` the items' rows get new sequences in all generations, and the
        listener hears of it. Without `renew` the listener hears nothing, so an index of the generation must be made
        afterwards. Raises NotFound if the generation has ended.
        """
        ...


class Generations(Protocol):
    """The generations that each collection has or had, and what they lack."""

    async def generations(self, collection: int) -> list[GenerationRecord]:
        """Returns all generations that there ever were, by key; none if the collection is gone."""
        ...

    async def begin_generation(self, collection: int, version: ModelVersion, details: str) -> Generation:
        """Begins to build a generation, durable on return. Writes with descriptors for it reach it from now on.

        Raises AlreadyExists if one is being built already, and NotFound if the collection is gone.
        """
        ...

    async def promote_generation(
        self, generation: Generation, since: int, details: str, *, lacking: bool = False
    ) -> bool:
        """Makes a built or kept generation the active one, and the active one the kept one, in one durable change.

        The generation that was kept until then is retired. Returns False and changes nothing if an item with a kept
        image that changed after the sequence `since` has no descriptor in the generation, unless `lacking` allows that.
        Raises NotFound if the generation has ended.
        """
        ...

    async def end_generation(self, generation: Generation, state: GenerationState, details: str) -> None:
        """Marks a building or kept generation as retired or failed, durable on return.

        Raises NotFound for any other.
        """
        ...

    async def note_generation(self, generation: Generation, details: str) -> None:
        """Stores the generation's details, durable on return."""
        ...

    async def count_lacking(self, generation: Generation) -> Lacking:
        """Counts the items that have no descriptor in the generation."""
        ...


class CollectionRecords(Protocol):
    """The collections with their settings, whether they are open or not."""

    async def collections(self) -> list[tuple[Collection, Generation]]:
        """Returns all collections by name, each with its active generation."""
        ...

    async def create_collection(
        self, name: str, settings: CollectionSettings, version: ModelVersion
    ) -> tuple[Collection, Generation]:
        """Creates an empty collection, durable on return. Raises AlreadyExists if the name is taken."""
        ...

    async def delete_collection(self, collection: int) -> int:
        """Deletes a collection with all its contents, durable on return, and returns how many items it had.

        The listener does not hear of it. Raises NotFound if the collection is gone.
        """
        ...

    async def set_follows(self, collection: int, *, follows: bool) -> None:
        """Stores whether the collection follows its model, durable on return. Raises NotFound if it is gone."""
        ...


class RowSource(Protocol):
    """The rows of one generation. Any thread may read them, one at a time."""

    def last_change(self) -> int:
        """Returns the sequence of the catalog's last change, in any generation."""
        ...

    def sequences(self) -> Sequences:
        """Returns the sequences of all rows, ascending."""
        ...

    def after(self, sequence: int) -> Iterator[Row]:
        """Returns the rows that exist at the time of the call and have a higher sequence, ascending.

        Rows that a later commit removes may be missing, and rows that it adds are missing: the listener gets them.
        """
        ...


Listener = Callable[[Commit], Future[None] | None]
"""Hears of a commit, and tells when searches see it, as `Index.apply` does."""


class RowFeed(Protocol):
    """The rows that indexes are built from, and the commits that keep them up to date."""

    def rows_of(self, generation: Generation) -> RowSource:
        """Returns the rows that an index of the generation is built from."""
        ...

    def listen(self, listener: Listener) -> None:
        """Calls `listener` in the writer's thread, in commit order, after each commit and before its acknowledgement.

        The listener must be quick and must not raise. A change is acknowledged when all futures returned so far are
        done, also those of earlier commits; the writer goes on meanwhile. Call this once, before the first write.
        """
        ...


class Storage(Protocol):
    """The disk storage of a catalog."""

    def size_bytes(self) -> int:
        """Returns the size on disk."""
        ...

    async def failed(self) -> PspsearchError:
        """Waits until nothing can be written any more, and returns the reason. The server should end then."""
        ...

    async def close(self) -> None:
        """Finishes the writes under way. No method may be called afterwards."""
        ...


class Catalog(WritableItems, Generations, CollectionRecords, RowFeed, Storage, Protocol):
    """The truth: collections, items, images, descriptors. Every method may be called from any task of one event loop.

    Reads see every write that was acknowledged before they began.
    """


class Index(Protocol):
    """Finds the rows of one generation by nearness. It is a cache of the catalog."""

    def apply(self, commit: Commit) -> Future[None] | None:
        """Takes in one commit, in commit order, from one thread at a time.

        It must be quick, because all writes wait for it. Searches that begin later see the commit: after the return if
        that is None, else after the future is done. So an engine may take its time, and no write is acknowledged too
        early. The future has no result and no error. If the index cannot take in the rows for now, the future is done
        all the same, and `check_current` says so.
        """
        ...

    def catch_up(self, commits: Sequence[Commit]) -> None:
        """Takes in the commits made while the index was opened, and skips what the opening has already seen.

        `commits` has all of the generation's commits since before the opening began, in commit order. Call it before
        the first `apply`. Searches that begin after the return see them.
        """
        ...

    def check_current(self) -> None:
        """Raises IndexBehind while the index could not take in all its commits; no write may be acknowledged then."""
        ...

    async def search(self, queries: Descriptors, count: int, where: Filter | None = None) -> list[Found]:
        """Returns for each query the `count` nearest rows that match `where`, or fewer if there are fewer.

        All answers are from one moment. Searches that wait for a running one are made together.
        """
        ...

    async def count(self, where: Filter | None = None) -> int:
        """Counts the rows that match `where`, or all rows if it is None."""
        ...

    def match(self, where: Filter, page_size: int, after_key: int = 0) -> AsyncGenerator[Matched]:
        """Yields the rows that match `where` in pages, by ascending key above `after_key`.

        All pages are from one moment. Each page has `page_size` rows and the last one fewer. There is at least one
        page, which may be empty.
        """
        ...

    async def sample(self, count: int) -> Matched:
        """Returns `count` rows, drawn evenly, or all rows if there are fewer."""
        ...

    async def contains(self, sequences: Sequences) -> NDArray[np.bool_]:
        """Returns for each sequence whether there is a row with it."""
        ...

    async def descriptors(self, sequences: Iterable[int]) -> Descriptors:
        """Returns the descriptors of rows that an answer named, in that order, even if they are gone by now.

        May raise NotFound for a row that has been gone for a minute.
        """
        ...

    @property
    def state(self) -> IndexState:
        """The state of the index now."""
        ...

    async def close(self) -> None:
        """Stops builds under way, leaves files that make the next opening quick, and frees the memory."""
        ...


class IndexEngine(Protocol):
    """Manages the indexes of the generations that can answer."""

    async def open(self, generation: Generation, settings: CollectionSettings, rows: RowSource) -> Index:
        """Opens the index of a generation with all its rows; files from an earlier opening may supply most of them.

        Commits made meanwhile must be given to `Index.catch_up`. Raises IndexFailed if there can be no index, and
        whatever `rows` raises.
        """
        ...

    async def drop(self, generation: Generation) -> None:
        """Removes all files of the generation's index, if there is one. It must not be open."""
        ...
