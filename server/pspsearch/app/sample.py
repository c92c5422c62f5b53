"""The collection `sample`: the pictures in `sample.zip`, so that a new server has something to search.

`build/recipes/draw_sample.py` makes that archive.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from zipfile import ZipFile

from pspsearch.call import Call
from pspsearch.domain import CollectionSettings
from pspsearch.errors import ModelMismatch, PspsearchError, RetryLater
from pspsearch.ingest.ingester import Ingester
from pspsearch.ingest.request import ItemInput
from pspsearch.live.collections import Collections
from pspsearch.ports import Items

log = logging.getLogger(__name__)

NAME = "sample"
ARCHIVE = Path(__file__).with_name("sample.zip")
_BATCH = 24
"""How many pictures go in at once: four things of one kind, balls first, because README.md searches for one."""
_CALL_S = 20.0
"""How long one batch may take, in seconds."""
_AGAIN_S = 1.0
"""How long it waits before it tries a batch again."""


def read_gallery() -> list[ItemInput]:
    """Reads all pictures, thing by thing and view by view."""
    with ZipFile(ARCHIVE) as archive:
        rows = [json.loads(line) for line in archive.read("items.jsonl").splitlines()]
        return [ItemInput(id_ := row.pop("id"), archive.read(f"{id_}.jpg"), json.dumps(row)) for row in rows]


@contextlib.asynccontextmanager
async def filling_sample(
    collections: Collections, catalog: Items, ingester: Ingester, model: str
) -> AsyncGenerator[None]:
    """Puts in what the collection lacks: a first batch before the block, the rest while it runs.

    What is missing when the block ends is left to the next start. No failure is raised; each is one sentence in the
    log.
    """
    async with contextlib.aclosing(_fill(collections, catalog, ingester, model)) as steps:
        await anext(steps, None)
        rest = asyncio.create_task(_exhaust(steps))
        try:
            yield
        finally:
            rest.cancel()
            await asyncio.wait([rest])


async def _fill(collections: Collections, catalog: Items, ingester: Ingester, model: str) -> AsyncGenerator[None]:
    """Puts in one batch per step."""
    started, count = time.monotonic(), 0
    try:
        await collections.create_missing(NAME, CollectionSettings(model))
        waiting = await asyncio.to_thread(_read_batches)
        while waiting:
            try:
                count += await _put_in(collections, catalog, ingester, waiting[0])
            except RetryLater as error:
                log.warning("the collection sample waits: %s", error)
                await asyncio.sleep(_AGAIN_S)
            else:
                del waiting[0]
            yield
    except ModelMismatch as error:
        log.error(  # noqa: TRY400 - a sentence
            "the collection sample cannot be filled: %s; put that version back, or run `pspsearch collections delete "
            "sample --yes` and start again, which makes it anew",
            error,
        )
        return
    except PspsearchError as error:
        log.error("the collection sample stays incomplete until the next start: %s", error)  # noqa: TRY400 - a sentence
        return
    if count:
        seconds = time.monotonic() - started
        log.info("the collection sample is complete: %d pictures put in, in %.1f s", count, seconds)


def _read_batches() -> list[list[ItemInput]]:
    gallery = read_gallery()
    return [gallery[first : first + _BATCH] for first in range(0, len(gallery), _BATCH)]


async def _put_in(collections: Collections, catalog: Items, ingester: Ingester, batch: list[ItemInput]) -> int:
    """Puts in the items of a batch that the collection lacks, and returns how many these are."""
    known = await catalog.items(collections.get(NAME).collection.key, [one.id for one in batch])
    lacking = [one for one in batch if one.id not in known]
    for acknowledgement in await ingester.upsert(NAME, lacking, Call(_CALL_S)) if lacking else ():
        if acknowledgement.error:
            raise acknowledgement.error
    return len(lacking)


async def _exhaust(steps: AsyncGenerator[None]) -> None:
    async for _ in steps:
        pass
