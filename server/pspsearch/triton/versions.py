"""Keeps one describer for each model version in use, and opens it at its first use."""

import asyncio
from types import TracebackType
from typing import Self

from tritonclient.grpc import model_config_pb2

from pspsearch.domain import ModelVersion, OfferedVersion
from pspsearch.errors import ModelLoadFailed, ModelMismatch, PspsearchError
from pspsearch.images.pixels import USUAL_LIMITS, ImageLimits
from pspsearch.model.config import check_policy, read_contract
from pspsearch.model.contract import Contract
from pspsearch.model.in_use import CHANGED, VersionsInUse, version_numbers
from pspsearch.triton.client import TritonClient
from pspsearch.triton.describer import TritonDescriber

_LAST_CALL_S = 60.0
"""How long after its release a describer is closed: longer than any call takes that still uses it."""


class Versions:
    """The describers of one Triton. Only tasks of one event loop may use it. On exit it closes all of them."""

    def __init__(self, client: TritonClient, in_use: VersionsInUse, limits: ImageLimits = USUAL_LIMITS) -> None:
        """The caller still closes the client. `limits` hold for images that a model decodes by itself."""
        self._client = client
        self._in_use = in_use
        self._limits = limits
        self._open: dict[tuple[str, int], TritonDescriber] = {}
        self._opening = asyncio.Lock()
        self._closing: dict[TritonDescriber, asyncio.Task[None]] = {}

    async def open(self, model: str, version: int | None) -> TritonDescriber:
        """Returns the only describer of that version, or of the highest version served.

        Raises ModelMismatch if Triton serves no such version, and VersionPolicyRefused if Triton would stop serving it
        when a newer one is published.
        """
        async with self._opening:
            version = version if version is not None else await self._highest(model)
            if (model, version) not in self._open:
                check_policy(await self._client.config(model), version)
                describer = await TritonDescriber.open(self._client, model, version, limits=self._limits)
                self._open[model, version] = describer
                self._in_use.add(model, version, describer.version.contract.digest)
            return self._open[model, version]

    async def release(self, version: ModelVersion) -> None:
        """Releases a version that no collection needs any more, so that its folder may be removed and Triton unload it.

        Calls under way may still use its describer, so it is closed `_LAST_CALL_S` later.
        """

        async def close_later(describer: TritonDescriber) -> None:
            await asyncio.sleep(_LAST_CALL_S)
            await describer.close()
            del self._closing[describer]

        async with self._opening:
            describer = self._open.pop((version.model, version.version), None)
            self._in_use.remove(version.model, version.version)
            if describer is not None:
                self._closing[describer] = asyncio.create_task(close_later(describer))

    async def look(self, model: str) -> list[OfferedVersion]:
        """Makes Triton load new versions, and returns all, ascending. Raises ModelMismatch for an unknown model.

        Nothing is loaded while a version in the folder is broken. Triton would load the broken one too, and so might
        replace a version that answers with different files under the same number.
        """
        repository = self._in_use.repository
        broken = {} if repository is None else await asyncio.to_thread(self._in_use.find_broken, model)
        reasons = {number: str(error) for number, error in broken.items()}
        usual = f"it is not loaded while another one is broken: {next(iter(reasons.values()))}" if broken else ""
        if not broken:
            try:
                await self._client.load(model)
            except ModelLoadFailed as error:
                usual = str(error)
        states = {one.version: one for one in await self._client.index() if one.model == model and one.version}
        there = states.keys() if repository is None else version_numbers(repository / model) | broken.keys()
        try:
            config = await self._client.config(model)
        except ModelMismatch:
            if not there:
                raise
            config = None
        for number in there:
            state = states.get(number)
            if state is None or not state.ready:
                told = "" if broken or state is None else state.reason
                reasons.setdefault(number, told or usual or "Triton has not loaded it")
        return [self._offer(config, number, reasons.get(number, "")) for number in sorted(there)]

    def _offer(self, config: model_config_pb2.ModelConfig | None, version: int, reason: str) -> OfferedVersion:
        if config is None:  # Triton has nothing of the model
            return OfferedVersion(version, None, reason)
        try:
            contract = read_contract(config, version)
        except PspsearchError as error:
            return OfferedVersion(version, None, reason or str(error))
        return OfferedVersion(version, contract, reason or self._changed(config.name, version, contract))

    def _changed(self, model: str, version: int, contract: Contract) -> str:
        """What is wrong if the version has changed since it was opened, or "". It is not used until it is restored."""
        known = self._open.get((model, version))
        if known is None:
            return ""
        had = known.version.contract
        same = (had.fingerprint, had.digest) == (contract.fingerprint, contract.digest)
        known.objection = "" if same else f"{known.version} {CHANGED}"
        return "" if same else f"it {CHANGED}"

    async def served(self, model: str) -> list[ModelVersion]:
        """Returns every version of the model that is ready in Triton and has a contract, ascending."""
        versions = await self._ready(model)
        if not versions:
            return []
        config = await self._client.config(model)
        offered = [self._offer(config, version, "") for version in versions]
        return [ModelVersion(model, one.version, one.contract) for one in offered if one.contract is not None]

    async def close(self) -> None:
        """Closes every describer."""
        for task in self._closing.values():
            task.cancel()
        for describer in (*self._closing, *self._open.values()):
            await describer.close()
        self._closing.clear()
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
