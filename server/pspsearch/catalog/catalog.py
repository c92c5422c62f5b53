"""The catalog as the rest of the server knows it."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Self

import apsw

from pspsearch.catalog.changes import fill, write_items
from pspsearch.catalog.collections import create_collection, delete_collection, set_follows, take_out_slice
from pspsearch.catalog.connections import connect_reader, connect_writer, translate_errors
from pspsearch.catalog.deletions import delete_portion, find_deletion
from pspsearch.catalog.folder import CATALOG, FolderLock
from pspsearch.catalog.generations import begin_generation, end_generation, note_generation, promote_generation
from pspsearch.catalog.integrity import check_pages
from pspsearch.catalog.log import check_log, log_of
from pspsearch.catalog.queries import (
    count_lacking,
    find_attributes,
    find_descriptor,
    find_image,
    find_items,
    find_items_by_key,
    find_lacking,
    list_collections,
    list_generations,
    read_page,
)
from pspsearch.catalog.readers import Readers
from pspsearch.catalog.rows import GenerationRows
from pspsearch.catalog.schema import check_schema, create, migrate
from pspsearch.catalog.times import utc_now
from pspsearch.catalog.writer import Writer
from pspsearch.domain import (
    Collection,
    CollectionSettings,
    Delete,
    Deletion,
    Filling,
    Generation,
    GenerationRecord,
    GenerationState,
    Item,
    Lacking,
    ModelVersion,
    StoredDescriptor,
    Upsert,
    Written,
)
from pspsearch.errors import PspsearchError
from pspsearch.ports import Listener

_MAX_QUEUED_BYTES = 64 * 1024 * 1024


class SqliteCatalog:
    """The port `Catalog` on SQLite. Use it as a context manager, from the tasks of the event loop that opened it.

    The port says what each method does. The docstrings here add when a write is durable and what a read sees.
    """

    def __init__(
        self,
        path: Path,
        lock: FolderLock,
        connection: apsw.Connection,
        now: Callable[[], datetime],
        max_queued_bytes: int,
    ) -> None:
        """Call `open` instead."""
        self._path = path
        self._lock = lock
        self._connection = connection
        self._readers = Readers(path)
        self._writer = Writer(connection, path, take_out_slice, now, max_queued_bytes)

    @classmethod
    async def open(
        cls, data: Path, *, now: Callable[[], datetime] = utc_now, max_queued_bytes: int = _MAX_QUEUED_BYTES
    ) -> Self:
        """Opens the catalog in the folder `data`; creates one if there is none.

        Writes wait while more than `max_queued_bytes` are queued. Raises CatalogError if another process holds the
        folder, or if the file belongs to another program or to a newer pspsearch; CatalogDamaged if it is broken.
        """
        lock, connection = await asyncio.to_thread(_open, data)
        return cls(data / CATALOG, lock, connection, now, max_queued_bytes)

    async def collections(self) -> list[tuple[Collection, Generation]]:
        """Reads as of one moment."""
        return await self._readers.ask(list_collections)

    async def create_collection(
        self, name: str, settings: CollectionSettings, version: ModelVersion
    ) -> tuple[Collection, Generation]:
        """The collection is durable on return."""
        return await self._writer.do(partial(create_collection, name=name, settings=settings, version=version))

    async def delete_collection(self, collection: int) -> int:
        """The collection is gone on return; its rows are removed later. Raises NotFound if it was gone before."""
        return await self._writer.do(partial(delete_collection, collection=collection))

    async def set_follows(self, collection: int, *, follows: bool) -> None:
        """The setting is durable on return."""
        await self._writer.do(partial(set_follows, collection=collection, follows=follows))

    async def write(
        self, generation: Generation, writes: Sequence[Upsert | Delete], *, request_id: str = "", asked: str = ""
    ) -> list[Written]:
        """The writes are durable on return.

        If the caller is cancelled before the call's turn, nothing is written. After that everything is written, and
        only the answer is lost.
        """
        work = partial(write_items, generation=generation, writes=writes, request_id=request_id, asked=asked)
        return await self._writer.do(work, sum(map(_size_bytes, writes)))

    async def deletion(self, generation: Generation, request_id: str, asked: str) -> Deletion | None:
        """Runs in the writer's thread, because the transaction's clock decides what is older than a day."""
        work = partial(find_deletion, generation=generation, request_id=request_id, asked=asked)
        return await self._writer.do(work)

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
        """The portion is durable on return. Cancellation works as in `write`."""
        given = {"so_far": so_far, "is_last": is_last, "request_id": request_id, "asked": asked}
        work = partial(delete_portion, generation=generation, deletes=deletes, **given)
        return await self._writer.do(work, sum(map(_size_bytes, deletes)))

    async def generations(self, collection: int) -> list[GenerationRecord]:
        """Reads as of one moment."""
        return await self._readers.ask(list_generations, collection)

    async def begin_generation(self, collection: int, version: ModelVersion, details: str) -> Generation:
        """The change is durable on return, as in the four methods below."""
        return await self._writer.do(partial(begin_generation, collection=collection, version=version, details=details))

    async def promote_generation(
        self, generation: Generation, since: int, details: str, *, lacking: bool = False
    ) -> bool:
        """Checks only the items that changed after `since`."""
        work = partial(promote_generation, generation=generation, since=since, details=details, lacking=lacking)
        return await self._writer.do(work)

    async def end_generation(self, generation: Generation, state: GenerationState, details: str) -> None:
        """The generation's descriptors are removed later, in small slices."""
        await self._writer.do(partial(end_generation, generation=generation, state=state, details=details))

    async def note_generation(self, generation: Generation, details: str) -> None:
        """Works in any state of the generation."""
        await self._writer.do(partial(note_generation, generation=generation, details=details))

    async def fill(self, generation: Generation, filled: Sequence[Filling], *, renew: bool) -> int:
        """The listener hears of it only if rows are renewed."""
        work = partial(fill, generation=generation, filled=filled, renew=renew)
        return await self._writer.do(work, sum(one.descriptor.nbytes for one in filled))

    async def lacking(self, generation: Generation, after_key: int, count: int) -> list[Item]:
        """Reads as of one moment."""
        return await self._readers.ask(find_lacking, generation, after_key, count)

    async def count_lacking(self, generation: Generation) -> Lacking:
        """Reads as of one moment."""
        return await self._readers.ask(count_lacking, generation)

    def listen(self, listener: Listener) -> None:
        """Registers the only listener, which hears every commit."""
        self._writer.listen(listener)

    async def items(self, collection: int, ids: Sequence[str]) -> dict[str, Item]:
        """Reads as of one moment."""
        return await self._readers.ask(find_items, collection, ids)

    async def items_by_key(self, collection: int, keys: Sequence[int]) -> list[Item]:
        """Reads as of one moment."""
        return await self._readers.ask(find_items_by_key, collection, keys)

    async def page(self, collection: int, after_key: int, count: int) -> list[Item]:
        """Reads as of one moment."""
        return await self._readers.ask(read_page, collection, after_key, count)

    async def attributes(self, collection: int, sequences: Sequence[int]) -> dict[int, str]:
        """Reads as of one moment."""
        return await self._readers.ask(find_attributes, collection, sequences)

    async def image(self, collection: int, id: str) -> bytes | None:  # noqa: A002 - the domain's word
        """Reads the whole image into memory."""
        return await self._readers.ask(find_image, collection, id)

    async def descriptor(self, generation: Generation, id: str) -> StoredDescriptor | None:  # noqa: A002
        """The array is read-only."""
        return await self._readers.ask(find_descriptor, generation, id)

    def rows_of(self, generation: Generation) -> GenerationRows:
        """Each read opens a connection of its own, so any thread may use the source."""
        return GenerationRows(self._path, generation)

    def size_bytes(self) -> int:
        """The size of the file and its log. Deletions free room inside the file, which does not shrink."""
        log = log_of(self._path)
        return self._path.stat().st_size + (log.stat().st_size if log.exists() else 0)

    async def failed(self) -> PspsearchError:
        """Waits until the disk refuses a write or the writer fails unexpectedly, and returns that error."""
        return await self._writer.failed()

    async def check(self) -> None:
        """Reads the whole file; raises CatalogDamaged if its structure is broken."""
        await self._readers.ask(check_pages, self._path)

    async def close(self) -> None:
        """Finishes the writes under way and releases the folder."""
        await self._writer.close()
        await self._readers.close()
        with contextlib.suppress(apsw.Error):  # a failing disk: the next start reads what is in the log
            self._connection.close()
        self._lock.release()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _open(data: Path) -> tuple[FolderLock, apsw.Connection]:
    lock = FolderLock(data)
    try:
        return lock, _connect(data / CATALOG)
    except BaseException:
        lock.release()
        raise


def _connect(path: Path) -> apsw.Connection:
    """Opens the writer's connection and migrates the tables; leaves a file that it refuses untouched."""
    with translate_errors(path):
        if not path.exists():
            create(path)
        check_log(path)
        with contextlib.closing(connect_reader(path)) as reader:
            check_schema(reader, path)
        connection = connect_writer(path)
        try:
            migrate(connection)
            connection.execute("PRAGMA journal_mode = WAL")
        except BaseException:
            connection.close()
            raise
    return connection


def _size_bytes(write: Upsert | Delete) -> int:
    if isinstance(write, Delete):
        return len(write.id)
    size = len(write.id) + len(write.attributes or "") + len(write.image or b"")
    own = 0 if write.descriptor is None else write.descriptor.nbytes
    return size + own + sum(one.nbytes for one in write.others.values())
