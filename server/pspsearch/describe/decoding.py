"""Decodes images in a few threads, so that the event loop never does."""

import asyncio
import contextlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from pspsearch.call import Call, Stage
from pspsearch.domain import Pixels
from pspsearch.errors import InvalidRequest, bare
from pspsearch.images.pixels import ImageLimits, decode_pixels
from pspsearch.model.contract import InputShape
from pspsearch.query import ImageQuery


class Decoder:
    """Decodes in as many threads as there are cores, because decoding releases the interpreter's lock."""

    def __init__(self, limits: ImageLimits) -> None:
        self._limits = limits
        self._pool = ThreadPoolExecutor(os.cpu_count() or 1, "decode")

    async def decode(
        self, images: Sequence[ImageQuery], shape: InputShape, call: Call
    ) -> list[Pixels | InvalidRequest]:
        """Returns the pixels of each image or of its box, height x width x 3, or the error if it cannot be read.

        The wait for a free thread counts as queueing.

        If the caller is cancelled, images that no thread has begun with are dropped. The call then waits for the
        others, because the memory that they hold is not free until they are done.
        """
        submitted = time.perf_counter()
        waiting = [[image] for image in images]  # the pool keeps its arguments, even of cancelled work
        work = [self._pool.submit(self._decode, one, shape) for one in waiting]
        pending = [asyncio.wrap_future(one) for one in work]
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError:
            for one, image in zip(work, waiting, strict=True):
                if one.cancel():
                    image.clear()
            while not all(one.done() for one in pending):
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait(pending)
            raise
        done = [one.result() for one in pending]
        begun = min(started for started, _ in done)
        call.add(Stage.QUEUE, submitted, begun)
        call.add(Stage.DECODE, begun, time.perf_counter())
        return [decoded for _, decoded in done]

    def _decode(self, waiting: list[ImageQuery], shape: InputShape) -> tuple[float, Pixels | InvalidRequest]:
        started, query = time.perf_counter(), waiting.pop()
        try:
            return started, decode_pixels(query.image, shape, self._limits, box=query.box)
        except InvalidRequest as error:
            return started, bare(error)

    def close(self) -> None:
        """Waits for the images that are being decoded."""
        self._pool.shutdown()
