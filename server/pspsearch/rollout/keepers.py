"""Describes later what could not be described during a write."""

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
    """Keeps up the generations that writes reach besides the active one.

    Each has a task that waits until its generation lags.
    """

    def __init__(self, filler: Filler, latencies: Latencies) -> None:
        self._filler = filler
        self._latencies = latencies
        self._tasks: dict[int, asyncio.Task[None]] = {}
        """The tasks by the key of their generation."""

    def begin(self, opened: OpenGeneration) -> None:
        """Starts to keep the generation up: what a write could not describe for it follows soon after."""
        self._tasks[opened.generation.key] = asyncio.create_task(self._keep_up(opened))

    def stop(self, generation: Generation) -> None:
        """Stops keeping up a generation that now answers, or that writes no longer reach."""
        task = self._tasks.pop(generation.key, None)
        if task is not None:
            task.cancel()

    async def fill_up(self, opened: OpenGeneration) -> int:
        """Describes what came late.

        Returns how many items cannot be described because their images cannot be read any more.
        """
        return await self._filler.fill(opened, Pace(1.0, float("inf"), self._latencies), lambda _: None, renew=True)

    async def close(self) -> None:
        """Stops all the tasks."""
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
