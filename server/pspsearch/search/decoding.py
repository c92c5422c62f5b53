"""Bytes to pixels in a few threads, so that the event loop never decodes."""

import asyncio
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from pspsearch.contract import InputShape
from pspsearch.domain import Pixels
from pspsearch.errors import InvalidRequest
from pspsearch.images import ImageLimits, decode_pixels
from pspsearch.search.call import Call, Stage


class Decoder:
    """As many threads as cores: decoding releases the interpreter's lock."""

    def __init__(self, limits: ImageLimits) -> None:
        self._limits = limits
        self._pool = ThreadPoolExecutor(os.cpu_count() or 1, "decode")

    async def decode(self, images: Sequence[bytes], shape: InputShape, call: Call) -> list[Pixels | InvalidRequest]:
        """Each image, height x width x 3, or why it cannot be read. The wait for a free thread counts as queueing."""
        loop = asyncio.get_running_loop()
        submitted = time.perf_counter()
        done = await asyncio.gather(*(loop.run_in_executor(self._pool, self._decode, one, shape) for one in images))
        begun = min(started for started, _ in done)
        call.add(Stage.QUEUE, submitted, begun)
        call.add(Stage.DECODE, begun, time.perf_counter())
        return [decoded for _, decoded in done]

    def _decode(self, image: bytes, shape: InputShape) -> tuple[float, Pixels | InvalidRequest]:
        started = time.perf_counter()
        try:
            return started, decode_pixels(image, shape, self._limits)
        except InvalidRequest as error:
            return started, error

    def close(self) -> None:
        """Waits for what is being decoded."""
        self._pool.shutdown()
