"""The model versions that are in use, and whether a repository still has what was published."""

from collections.abc import Collection
from pathlib import Path

from pspsearch.errors import ModelMismatch, RepositoryError
from pspsearch.model.config import find_broken_contracts
from pspsearch.model.manifest import MANIFEST, Manifest
from pspsearch.model.repository import find_broken_versions, readable

CHANGED = "has been changed since the server began to use it: publish a change under a number of its own"


class VersionsInUse:
    """The digests of open versions. It exists before Triton does, which must not load a version that has changed."""

    def __init__(self, repository: Path | None = None) -> None:
        """`repository` is the one that the models are served from, if it is on this machine."""
        self.repository = repository
        self._digests: dict[tuple[str, int], str] = {}

    def add(self, model: str, version: int, digest: str) -> None:
        """From now on this version is in use."""
        self._digests[model, version] = digest

    def remove(self, model: str, version: int) -> None:
        """From now on it is not, whether or not it was."""
        self._digests.pop((model, version), None)

    def find_broken(self, model: str) -> dict[int, RepositoryError]:
        """The versions of a model that must not be loaded; key 0 holds what concerns no numbered version.

        Reads every file of the model. Raises ModelMismatch if the repository has no such model.
        """
        assert self.repository is not None
        folder = self.repository / model
        broken = find_broken_versions(folder)
        broken |= self._find_changed(folder, broken)
        broken = _find_broken_contracts(folder) | broken
        if not broken and not folder.is_dir():
            raise ModelMismatch(f"the model repository has no model {model}")
        return broken

    def objection(self, model: str) -> str:
        """Why a Triton that restarts must not load the model, or "". It may be called from any thread.

        If the files of a version in use have changed, the changed version would answer under the old number.
        """
        if self.repository is not None:
            for (name, version), digest in list(self._digests.items()):
                path = self.repository / model / str(version)
                if name == model and _is_another(path, digest):
                    return f"{path} {CHANGED}"
        return ""

    def _find_changed(self, folder: Path, broken: Collection[int]) -> dict[int, RepositoryError]:
        """Finds versions in use whose folder is gone, or that were published again under the same number."""
        changed: dict[int, RepositoryError] = {}
        for (model, version), digest in list(self._digests.items()):
            path = folder / str(version)
            if model != folder.name or version in broken:
                continue
            if not path.is_dir():
                changed[version] = RepositoryError(f"{path} is gone, and is in use: put it back")
            elif _is_another(path, digest):
                changed[version] = RepositoryError(f"{path} {CHANGED}")
        return changed


def version_numbers(folder: Path) -> set[int]:
    """The version numbers in a model's folder; none if there is no folder."""
    with readable(folder):
        paths = list(folder.iterdir()) if folder.is_dir() else []
        return {int(path.name) for path in paths if path.is_dir() and path.name.isdecimal()}


def _is_another(version: Path, digest: str) -> bool:
    """Whether another version was published there than the one with that digest."""
    return (version / MANIFEST).is_file() and Manifest.read(version).digest != digest


def _find_broken_contracts(model: Path) -> dict[int, RepositoryError]:
    """The versions with a broken contract; all versions if the configuration that they share is not as published."""
    if not model.is_dir():
        return {}
    try:
        return find_broken_contracts(model)
    except RepositoryError as error:
        return dict.fromkeys(version_numbers(model), error)
