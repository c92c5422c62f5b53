"""The collection `sample`: the drawn gallery, put in once."""

import asyncio
import itertools
import json
import logging
from collections.abc import Iterator

from pspsearch.call import Call
from pspsearch.domain import CollectionSettings
from pspsearch.ingest.ingester import Ingester
from pspsearch.ingest.request import ItemInput
from pspsearch.live.collections import Collections
from pspsearch.sample.gallery import GALLERY_SIZE, Picture, draw_gallery

log = logging.getLogger(__name__)

NAME = "sample"
_BATCH = 24


async def fill_sample(collections: Collections, ingester: Ingester, model: str) -> None:
    """Draws the gallery into its collection, unless it is all there; what a killed start left out is added.

    A collection that is there and cannot be opened is left alone.
    """
    await collections.create_missing(NAME, CollectionSettings(model))
    rows = next((live.index.state.rows for live in collections.all() if live.collection.name == NAME), GALLERY_SIZE)
    if rows >= GALLERY_SIZE:
        return
    log.info("drawing the sample gallery: %d pictures, once", GALLERY_SIZE)
    pictures = draw_gallery()
    while batch := await asyncio.to_thread(_take, pictures):
        items = [ItemInput(one.id, one.image, json.dumps(one.attributes)) for one in batch]
        for acknowledgement in await ingester.upsert(NAME, items, Call()):
            if acknowledgement.error:
                raise acknowledgement.error


def _take(pictures: Iterator[Picture]) -> list[Picture]:
    return list(itertools.islice(pictures, _BATCH))
