"""Keeps one describer for each model version in use, out of a repository on this machine."""

import asyncio
from pathlib import Path

from pspsearch.domain import ModelVersion, OfferedVersion
from pspsearch.embedded.describer import EmbeddedDescriber
from pspsearch.embedded.network import Network
from pspsearch.embedded.workers import Workers
from pspsearch.errors import ModelMismatch, PspsearchError, RepositoryError
from pspsearch.images.pixels import ImageLimits
from pspsearch.model.config import read_config, read_contract
from pspsearch.model.contract import Contract, Takes
from pspsearch.model.in_use import VersionsInUse, version_numbers

_FILE = "model.onnx"


class EmbeddedVersions:
    """The describers of one repository. Only tasks of one event loop may use it."""

    def __init__(self, repository: Path, limits: ImageLimits) -> None:
        """`limits` apply to the images that it decodes."""
        self._repository = repository
        self._limits = limits
        self._in_use = VersionsInUse(repository)
        self._workers = Workers()
        self._open: dict[tuple[str, int], EmbeddedDescriber] = {}
        self._opening = asyncio.Lock()

    async def open(self, model: str, version: int | None) -> EmbeddedDescriber:
        """Returns the only describer of that version, or of the highest that can be used.

        Raises ModelMismatch if there is no such version, and ModelLoadFailed if its network cannot be loaded.
        """
        async with self._opening:
            if version is not None and (model, version) in self._open:
                return self._open[model, version]
            found = await self._find(model, version)  # reads every file of the model
            if (model, found.version) not in self._open:
                path = self._repository / model / str(found.version) / _FILE
                network = await asyncio.to_thread(Network, path, found.contract)
                self._open[model, found.version] = EmbeddedDescriber(found, network, self._workers, self._limits)
                self._in_use.add(model, found.version, found.contract.digest)
            return self._open[model, found.version]

    async def release(self, version: ModelVersion) -> None:
        """Releases a version that no collection needs any more; calls under way still have their answers."""
        async with self._opening:
            self._open.pop((version.model, version.version), None)
            self._in_use.remove(version.model, version.version)

    async def look(self, model: str) -> list[OfferedVersion]:
        """Returns all versions in the repository, ascending. Raises ModelMismatch for an unknown model."""
        return await asyncio.to_thread(self._look, model)

    async def served(self, model: str) -> list[ModelVersion]:
        """Returns every version of the model that can be used, ascending."""
        offered = [one for one in await self.look(model) if not one.reason]
        return [ModelVersion(model, one.version, one.contract) for one in offered if one.contract is not None]

    async def close(self) -> None:
        """Ends the threads, after the images that wait."""
        await asyncio.to_thread(self._workers.close)
        self._open.clear()

    async def _find(self, model: str, version: int | None) -> ModelVersion:
        offered = [one for one in await self.look(model) if version in (None, one.version)]
        for one in reversed(offered):
            if not one.reason and one.contract is not None:
                return ModelVersion(model, one.version, one.contract)
        wanted = "version that can be used" if version is None else f"version {version}"
        why = f": {offered[-1].reason}" if offered else ""
        raise ModelMismatch(f"the model repository has no {wanted} of {model}{why}")

    def _look(self, model: str) -> list[OfferedVersion]:
        broken = self._in_use.find_broken(model)
        numbers = version_numbers(self._repository / model) | broken.keys()
        return [self._offer(model, number, broken.get(number, broken.get(0))) for number in sorted(numbers)]

    def _offer(self, model: str, version: int, error: RepositoryError | None) -> OfferedVersion:
        folder = self._repository / model
        try:
            contract = read_contract(read_config(folder), version)
        except PspsearchError as unreadable:
            return OfferedVersion(version, None, str(error or unreadable))
        return OfferedVersion(version, contract, str(error or "") or _why_not(folder / str(version), contract))


def _why_not(version: Path, contract: Contract) -> str:
    """Why this process cannot run a version that is sound, or ""."""
    if contract.takes is not Takes.PIXELS or not (version / _FILE).is_file():
        return f"{version} has no {_FILE} that takes pixels, so that it needs a Triton"
    return ""
