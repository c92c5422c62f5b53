"""One describer for each model version in use, opened when it is first asked for."""

import asyncio
from types import TracebackType
from typing import Self

from pspsearch.errors import ModelMismatch
from pspsearch.triton.client import TritonClient
from pspsearch.triton.describer import TritonDescriber


class Describers:
    """For the tasks of one event loop; closes what it opened."""

    def __init__(self, client: TritonClient) -> None:
        """The client stays the caller's to close."""
        self._client = client
        self._open: dict[tuple[str, int], TritonDescriber] = {}
        self._opening = asyncio.Lock()

    async def open(self, model: str, version: int | None) -> TritonDescriber:
        """The one describer of that version, or of the highest that is served; ModelMismatch where there is none."""
        async with self._opening:
            version = version if version is not None else await self._highest(model)
            if (model, version) not in self._open:
                self._open[model, version] = await TritonDescriber.open(self._client, model, version)
            return self._open[model, version]

    async def served(self, model: str) -> list[TritonDescriber]:
        """A describer for each version of the model that Triton has ready, ascending."""
        return [await self.open(model, version) for version in await self._ready(model)]

    async def close(self) -> None:
        """Closes every describer."""
        for describer in self._open.values():
            await describer.close()
        self._open.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _highest(self, model: str) -> int:
        versions = await self._ready(model)
        if not versions:
            raise ModelMismatch(f"Triton at {self._client.address} serves no version of {model}")
        return versions[-1]

    async def _ready(self, model: str) -> list[int]:
        states = await self._client.index()
        return sorted(state.version for state in states if state.model == model and state.ready and state.version)
