"""Describes what a generation lacks, from the stored images."""

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pspsearch.call import Call
from pspsearch.describe.queries import QueryDescriber
from pspsearch.domain import Descriptor, Filling, Item, Urgency
from pspsearch.errors import DeadlineExceeded, ModelMismatch, PspsearchError, RetryLater
from pspsearch.live.latencies import Latencies
from pspsearch.live.live import OpenGeneration
from pspsearch.ports import WritableItems

log = logging.getLogger(__name__)

BATCH = 4
"""How many items are stored together, or more if more are described at once."""

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0
CALL_S = 20.0
"""The time limit of one request to the model."""

PATIENCE_S = 60.0
"""How long a version may be missing, as in a Triton that is starting again, or fail to answer in time."""


@dataclass(slots=True)
class Pace:
    """Rests between images, so that live searches get their share of the model, and longer when they become slow."""

    share: float
    """The share of the time in which images are described."""
    worst_strain: float
    latencies: Latencies
    _ease: float = 1.0

    async def rest(self, busy_s: float) -> None:
        """Rests after what took `busy_s`."""
        if self.latencies.strain > self.worst_strain:
            self._ease = max(0.1, 0.9 * self._ease)
        else:
            self._ease = min(1.0, 1.1 * self._ease)
        share = self.share * self._ease
        await asyncio.sleep(busy_s * (1 - share) / share)


class Filler:
    """Describes the items that a generation lacks. Only tasks of one event loop may use it."""

    def __init__(self, catalog: WritableItems, describer: QueryDescriber, at_once: int = 1) -> None:
        """A search that comes while images are described waits for `at_once` of them at most."""
        self._catalog = catalog
        self._describer = describer
        self._at_once = at_once

    async def fill(self, opened: OpenGeneration, pace: Pace, told: Callable[[int], None], *, renew: bool) -> int:
        """Describes every item that has a kept, readable image, and returns how many images cannot be read.

        `told` hears the number of each batch. `renew` is passed to the catalog's `fill`. Trouble that may pass is
        waited out, and other errors are raised.
        """
        unreadable: set[int] = set()
        while await self._pass(opened, pace, told, unreadable, renew=renew):
            pass
        return len(unreadable)

    async def _pass(
        self, opened: OpenGeneration, pace: Pace, told: Callable[[int], None], unreadable: set[int], *, renew: bool
    ) -> bool:
        """Goes once through all items. Returns whether it tried to describe any."""
        after, any_described = 0, False
        while items := await self._catalog.lacking(opened.generation, after, max(BATCH, self._at_once)):
            after = items[-1].key
            wanted = [item for item in items if item.image and item.image.kept and item.key not in unreadable]
            if not wanted:
                continue
            any_described = True
            filled = await self._describe(opened, wanted, unreadable, pace)
            told(await self._catalog.fill(opened.generation, filled, renew=renew))
        return any_described

    async def _describe(
        self, opened: OpenGeneration, items: Sequence[Item], unreadable: set[int], pace: Pace
    ) -> list[Filling]:
        collection = opened.generation.collection
        images = await asyncio.gather(*(self._catalog.image(collection, item.id) for item in items))
        there = [(item, image) for item, image in zip(items, images, strict=True) if image is not None]
        descriptors: list[Descriptor | PspsearchError] = []
        for start in range(0, len(there), self._at_once):
            some, began = [image for _, image in there[start : start + self._at_once]], time.perf_counter()
            with pace.latencies.company():
                descriptors += await self._insist(opened, some)
            await pace.rest(time.perf_counter() - began)
        filled: list[Filling] = []
        for (item, image), descriptor in zip(there, descriptors, strict=True):
            if isinstance(descriptor, PspsearchError):
                log.warning("the image of item %r cannot be read any more: %s", item.id, descriptor)
                unreadable.add(item.key)
            else:
                # The digest of these very bytes, because the item may have got another image since it was listed.
                filled.append(Filling(item.key, hashlib.sha256(image).hexdigest(), descriptor.astype(np.float16)))
        return filled

    async def _insist(self, opened: OpenGeneration, images: Sequence[bytes]) -> list[Descriptor | PspsearchError]:
        """Retries trouble that may pass: without end if the model is away or busy, for a while if the version fails."""
        pause_s, began = _FIRST_PAUSE_S, time.monotonic()
        while True:
            try:
                call = Call(CALL_S, urgency=Urgency.ROLLOUT)
                return await self._describer.describe_images(opened.describer, images, call)
            except (RetryLater, ModelMismatch) as error:
                ill = isinstance(error, (ModelMismatch, DeadlineExceeded))
                if ill and time.monotonic() - began > PATIENCE_S:
                    raise
                log.info("describing for %s waits: %s", opened.describer.version, error)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
