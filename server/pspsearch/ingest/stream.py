"""Ingests a stream of items in small overlapping batches: one is decoded while another waits for Triton."""

import asyncio
from collections.abc import AsyncIterator

from pspsearch.call import Call
from pspsearch.errors import PspsearchError, bare
from pspsearch.ingest.ingester import Ingester
from pspsearch.ingest.request import Acknowledgement, ItemInput

_BATCH = 32
_OVERLAPPING = 2

Tagged = tuple[int, ItemInput | PspsearchError]


async def ingest(
    ingester: Ingester, collection: str, items: AsyncIterator[Tagged]
) -> AsyncIterator[tuple[int, Acknowledgement]]:
    """Acknowledges each item as soon as it is durable, in any order. Items with the same id are written in order.

    Reads at most two batches ahead. An error that may pass is the acknowledgement of the items in its batch.
    """
    waiting: asyncio.Queue[Tagged | None] = asyncio.Queue(_BATCH)
    done: asyncio.Queue[list[tuple[int, Acknowledgement]] | None] = asyncio.Queue()
    async with asyncio.TaskGroup() as group:
        reader = group.create_task(_read(items, waiting))
        group.create_task(_write(ingester, collection, waiting, done))
        try:
            while (batch := await done.get()) is not None:
                for acknowledgement in batch:
                    yield acknowledgement
        finally:
            reader.cancel()


async def _read(items: AsyncIterator[Tagged], waiting: "asyncio.Queue[Tagged | None]") -> None:
    async for item in items:
        await waiting.put(item)
        del item  # the next item may take long to come
    await waiting.put(None)


async def _write(
    ingester: Ingester,
    collection: str,
    waiting: "asyncio.Queue[Tagged | None]",
    done: "asyncio.Queue[list[tuple[int, Acknowledgement]] | None]",
) -> None:
    free = asyncio.Semaphore(_OVERLAPPING)
    under_way: dict[str, asyncio.Task[None]] = {}

    async def put_in(batch: list[Tagged]) -> None:
        try:
            done.put_nowait(await _upsert(ingester, collection, batch))
        finally:
            free.release()

    async with asyncio.TaskGroup() as group:
        while (batch := await _gather(waiting)) is not None:
            await free.acquire()
            ids = {item.id for _, item in batch if isinstance(item, ItemInput)}
            for earlier in {under_way[id_] for id_ in ids if id_ in under_way}:
                await asyncio.wait([earlier])
            task = group.create_task(put_in(batch))
            under_way = {id_: other for id_, other in under_way.items() if not other.done()} | dict.fromkeys(ids, task)
            del batch
    done.put_nowait(None)


async def _gather(waiting: "asyncio.Queue[Tagged | None]") -> list[Tagged] | None:
    """Returns the waiting items, at least one and at most a batch; None at the end of the stream."""
    first = await waiting.get()
    if first is None:
        return None
    batch = [first]
    while len(batch) < _BATCH and not waiting.empty():
        item = waiting.get_nowait()
        if item is None:
            waiting.put_nowait(None)  # for the next call to find
            break
        batch.append(item)
    return batch


async def _upsert(ingester: Ingester, collection: str, batch: list[Tagged]) -> list[tuple[int, Acknowledgement]]:
    try:
        acknowledgements = await ingester.upsert(collection, [item for _, item in batch], Call())
    except PspsearchError as error:
        acknowledgements = [
            Acknowledgement(item.id if isinstance(item, ItemInput) else "", error=bare(error)) for _, item in batch
        ]
    return [(tag, given) for (tag, _), given in zip(batch, acknowledgements, strict=True)]
