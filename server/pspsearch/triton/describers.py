"""One describer for each model version in use, opened when it is first asked for."""

import asyncio
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Self

from tritonclient.grpc import model_config_pb2

from pspsearch.contract import Contract
from pspsearch.domain import OfferedVersion
from pspsearch.errors import ModelLoadFailed, ModelMismatch, PspsearchError, RepositoryError
from pspsearch.manifest import MANIFEST, Manifest
from pspsearch.repository import find_broken_versions
from pspsearch.triton.client import TritonClient
from pspsearch.triton.describer import TritonDescriber, read_contract
from pspsearch.triton.model_config import check_policy

_CHANGED = "has been changed since the server began to use it: publish a change under a number of its own"


class Describers:
    """For the tasks of one event loop; closes what it opened."""

    def __init__(self, client: TritonClient, repository: Path | None = None) -> None:
        """The client stays the caller's to close. `repository` is what Triton serves, where it is on this machine."""
        self._client = client
        self._repository = repository
        self._open: dict[tuple[str, int], TritonDescriber] = {}
        self._opening = asyncio.Lock()

    async def open(self, model: str, version: int | None) -> TritonDescriber:
        """The one describer of that version, or of the highest that is served; ModelMismatch where there is none.

        VersionPolicyRefused where Triton would not go on serving it.
        """
        async with self._opening:
            version = version if version is not None else await self._highest(model)
            if (model, version) not in self._open:
                check_policy(await self._client.config(model), version)
                self._open[model, version] = await TritonDescriber.open(self._client, model, version)
            return self._open[model, version]

    async def look(self, model: str) -> list[OfferedVersion]:
        """Has Triton load what is new, and tells all versions, ascending.

        While a version in the folder is broken, nothing is loaded: Triton would load that one, too, and a version that
        answers might become another one under the same number.
        """
        broken: dict[int, RepositoryError] = {}
        if self._repository is not None:
            broken = await asyncio.to_thread(find_broken_versions, self._repository / model)
            broken |= self._find_altered(self._repository / model, broken)
        reasons = {number: str(error) for number, error in broken.items()}
        usual = f"it is not loaded while another one is broken: {next(iter(reasons.values()))}" if broken else ""
        if not broken:
            try:
                await self._client.load(model)
            except ModelLoadFailed as error:
                usual = str(error)
        config = await self._client.config(model)
        states = {one.version: one for one in await self._client.index() if one.model == model and one.version}
        for number in self._in_folder(model) | states.keys():
            state = states.get(number)
            if state is None or not state.ready:
                told = "" if broken or state is None else state.reason
                reasons.setdefault(number, told or usual or "Triton has not loaded it")
        numbers = sorted({*states, *reasons})
        return [self._offer(config, number, reasons.get(number, "")) for number in numbers]

    def _offer(self, config: model_config_pb2.ModelConfig, version: int, reason: str) -> OfferedVersion:
        try:
            contract = read_contract(config, version)
        except PspsearchError as error:
            return OfferedVersion(version, None, reason or str(error))
        return OfferedVersion(version, contract, reason or self._changed(config.name, version, contract))

    def _find_altered(self, folder: Path, broken: Collection[int]) -> dict[int, RepositoryError]:
        """Versions in use whose files were published anew under their old number."""
        altered: dict[int, RepositoryError] = {}
        for (model, version), describer in self._open.items():
            if model != folder.name or version in broken or not (folder / str(version) / MANIFEST).is_file():
                continue
            if Manifest.read(folder / str(version)).digest != describer.version.contract.digest:
                altered[version] = RepositoryError(f"{folder / str(version)} {_CHANGED}")
        return altered

    def _in_folder(self, model: str) -> set[int]:
        if self._repository is None:
            return set()
        names = (path.name for path in (self._repository / model).iterdir() if path.is_dir())
        return {int(name) for name in names if name.isdecimal()}

    def _changed(self, model: str, version: int, contract: Contract) -> str:
        """What is wrong where it is not what it was when it was opened."""
        known = self._open.get((model, version))
        if known is None or known.version.contract.fingerprint == contract.fingerprint:
            return ""
        return f"it {_CHANGED}"

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
