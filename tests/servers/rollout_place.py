"""Servers whose collections can move to other model versions."""

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pspsearch.catalog.catalog import SqliteCatalog
from pspsearch.catalog.folder import INDEXES
from pspsearch.client import AsyncClient
from pspsearch.config import GateSettings
from pspsearch.domain import RolloutStage
from pspsearch.index.engine import FaissEngine
from pspsearch.v1 import model_service_pb2 as models
from tests.fakes.describer import ColourDescriber, version
from tests.indexes import NEVER, ROOM
from tests.pictures import encode
from tests.servers.rpc_client import Api, open_api

OVERLAP = GateSettings(gate_overlap=0.8, gate_slowdown=1000.0)
"""Both spaces have the same neighbours here, and the speed of a fake says nothing."""


def picture(number: int) -> bytes:
    """One of many pictures with different colours."""
    colours = np.random.default_rng(number).integers(0, 256, (2, 2, 3), np.uint8)
    return encode(Image.fromarray(colours).resize((48, 48), Image.Resampling.NEAREST), "PNG")


def second(shift: int = 5) -> ColourDescriber:
    """Another version of the model, with a space of its own."""
    return ColourDescriber(version(2), shift)


async def reach(api: Api, stage: "models.RolloutStage.ValueType") -> models.Rollout:
    """Waits until the rollout is at this stage, and returns it; it must not fail before."""
    async for answer in api.models.WatchRollout(models.WatchRolloutRequest()):
        if answer.rollout.stage == stage:
            return answer.rollout
        assert answer.rollout.stage != models.ROLLOUT_STAGE_FAILED, answer.rollout.reason
    raise AssertionError("the rollout ended")


async def until_ready(client: AsyncClient) -> None:
    """Waits until the rollout is ready; it must not fail before."""
    async for moment in client.watch_rollout():
        assert moment.stage is not RolloutStage.FAILED, moment.reason
        if moment.stage is RolloutStage.READY:
            return


@dataclass
class Place:
    """A place where a restarted server finds its data again. Without a folder there is none."""

    folder: Path | None
    versions: dict[int, ColourDescriber] = field(default_factory=lambda: {1: ColourDescriber(), 2: second()})
    gate: GateSettings = OVERLAP

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncGenerator[Api]:
        """Starts a server there."""
        async with contextlib.AsyncExitStack() as stack:
            options: dict[str, Any] = {"versions": self.versions, "gate": self.gate}
            if self.folder is not None:
                catalog = await stack.enter_async_context(await SqliteCatalog.open(self.folder))
                options |= {"catalog": catalog, "engine": FaissEngine(self.folder / INDEXES, ROOM, NEVER)}
            yield await stack.enter_async_context(open_api(**options))
