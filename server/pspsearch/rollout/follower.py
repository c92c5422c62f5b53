"""Watches the model repository, and takes the collections that follow their model to new versions."""

import asyncio
import logging
from types import TracebackType
from typing import Self

from pspsearch.domain import ModelVersion, OfferedVersion
from pspsearch.errors import PspsearchError
from pspsearch.live.collections import Collections
from pspsearch.live.finishing import cancel
from pspsearch.live.live import Live
from pspsearch.ports import Generations
from pspsearch.rollout.rollout import RolloutOptions
from pspsearch.rollout.rollouts import Rollouts

log = logging.getLogger(__name__)


class Follower:
    """Looks at intervals while its context lasts. Enter it when the rollouts are open."""

    def __init__(self, rollouts: Rollouts, collections: Collections, catalog: Generations, every_s: float) -> None:
        """`every_s` is the time between two looks, in seconds; with 0 it never looks by itself."""
        self._rollouts = rollouts
        self._collections = collections
        self._catalog = catalog
        self._every_s = every_s
        self._watching: asyncio.Task[None] | None = None
        self._told: set[tuple[str, int, str]] = set()
        """What was found in the repository and has been logged."""

    async def look_for_news(self, model: str) -> None:
        """Looks into the repository, and takes the collections that follow the model to its highest version.

        No collection is taken to the same version twice.
        """
        offered = await self._rollouts.look(model)
        for one in offered:
            news = (model, one.version, one.reason)
            if news not in self._told:
                self._told.add(news)
                log.info("%s/%d is there%s", *news[:2], f", and cannot be used: {one.reason}" if one.reason else "")
        best = max((one for one in offered if not one.reason), key=lambda one: one.version, default=None)
        for live in self._collections.all():
            if best is not None and live.collection.settings.model == model and live.collection.follows:
                await self._follow(live, best)

    async def __aenter__(self) -> Self:
        if self._every_s:
            self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await cancel(self._watching)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            for model in sorted({live.collection.settings.model for live in self._collections.all()}):
                try:
                    await self.look_for_news(model)
                except PspsearchError as error:
                    log.warning("the versions of %s cannot be looked at: %s", model, error)

    async def _follow(self, live: Live, best: OfferedVersion) -> None:
        """Starts a rollout, unless the collection had the version before: it may have failed or been taken back."""
        if (
            best.version <= live.generation.version
            or best.contract is None
            or self._rollouts.under_way(live.collection)
        ):
            return
        records = await self._catalog.generations(live.collection.key)
        version = ModelVersion(live.collection.settings.model, best.version, best.contract)
        if any(version.made(record.generation) for record in records):
            return
        try:
            await self._rollouts.start(live.collection.name, best.version, RolloutOptions(automatic=True))
        except PspsearchError as error:
            log.warning("%s cannot follow to version %d: %s", live.collection.name, best.version, error)
