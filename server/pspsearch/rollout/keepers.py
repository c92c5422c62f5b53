"""Describes later what a write could not."""

import asyncio
import logging

from pspsearch.domain import Generation
from pspsearch.errors import PspsearchError
from pspsearch.live.finishing import cancel
from pspsearch.live.latencies import Latencies
from pspsearch.live.live import OpenGeneration
from pspsearch.rollout.filling import Filler, Pace

log = logging.getLogger(__name__)


class Keepers:
    """One for each generation that writes reach beside the active one: it waits until the generation lags."""

    def __init__(self, filler: Filler, latencies: Latencies) -> None:
        self._filler = filler
        self._latencies = latencies
        self._tasks: dict[int, asyncio.Task[None]] = {}
        """By generation."""

    def begin(self, opened: OpenGeneration) -> None:
        """From now on it has what writes could not give it soon after them."""
        self._tasks[opened.generation.key] = asyncio.create_task(self._keep_up(opened))

    def stop(self, generation: Generation) -> None:
        """Of a generation that answers, or that nothing reaches any more."""
        task = self._tasks.pop(generation.key, None)
        if task is not None:
            task.cancel()

    async def fill_up(self, opened: OpenGeneration) -> int:
        """With what came late; how many items cannot be described, because their images cannot be read any more."""
        return await self._filler.fill(opened, Pace(1.0, float("inf"), self._latencies), lambda _: None, renew=True)

    async def close(self) -> None:
        """Stops all of them."""
        for task in [*self._tasks.values()]:
            await cancel(task)

    async def _keep_up(self, opened: OpenGeneration) -> None:
        while True:
            await opened.lags.wait()
            opened.lags.clear()
            try:
                await self.fill_up(opened)
            except PspsearchError as error:
                log.warning("generation %d lags behind: %s", opened.generation.key, error)
                await asyncio.sleep(1)
                opened.lags.set()
