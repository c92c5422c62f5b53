"""Ray Serve with its dynamic batches, two of which may be under way."""

import asyncio
import logging

import numpy as np
from parts import Arguments, FaissIndex, Network, answer, decode
from ray import serve
from starlette.requests import Request

arguments = Arguments.read()


@serve.deployment(max_ongoing_requests=256, logging_config={"enable_access_log": False, "log_level": "ERROR"})
class Search:
    """One replica, because the network uses both cores."""

    def __init__(self) -> None:
        self._network = Network(arguments.model, arguments.hint)
        self._index = FaissIndex(arguments.vectors)

    def _find(self, images: list[bytes]) -> list[dict[str, list[dict[str, object]]]]:
        pixels = np.stack([decode(image) for image in images])
        return [answer(hits) for hits in self._index.search(self._network.describe(pixels))]

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.002, max_concurrent_batches=2)
    async def _find_all(self, images: list[bytes]) -> list[dict[str, list[dict[str, object]]]]:
        return await asyncio.to_thread(self._find, images)

    async def __call__(self, request: Request) -> dict[str, list[dict[str, object]]]:
        """From a JPEG to its hits."""
        return await self._find_all(await request.body())


logging.getLogger("ray").setLevel(logging.ERROR)
serve.start(http_options={"port": arguments.port})
serve.run(Search.bind(), route_prefix="/search", blocking=True)
