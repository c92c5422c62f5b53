"""The model versions that are in use, and whether their files are still the ones that were published."""

from collections.abc import Collection
from pathlib import Path

from pspsearch.errors import RepositoryError
from pspsearch.model.manifest import MANIFEST, Manifest
from pspsearch.triton.describer import TritonDescriber

CHANGED = "has been changed since the server began to use it: publish a change under a number of its own"


class VersionsInUse:
    """Open describers, by model and number. It is there before Triton is, which must not load what has changed."""

    def __init__(self, repository: Path | None = None) -> None:
        """`repository` is what Triton serves, where it is on this machine."""
        self.repository = repository
        self.describers: dict[tuple[str, int], TritonDescriber] = {}

    def find_changed(self, folder: Path, broken: Collection[int]) -> dict[int, RepositoryError]:
        """Those that are gone from their model's folder, or were published anew under their old number."""
        changed: dict[int, RepositoryError] = {}
        for (model, version), describer in self.describers.items():
            path = folder / str(version)
            if model != folder.name or version in broken:
                continue
            if not path.is_dir():
                changed[version] = RepositoryError(f"{path} is gone, and is in use: put it back")
            elif _is_another(path, describer):
                changed[version] = RepositoryError(f"{path} {CHANGED}")
        return changed

    def objection(self, model: str) -> str:
        """Why a Triton that starts again must not load the model, or nothing; from any thread.

        A version in use whose files are others by now would answer under the number of the one that was there.
        """
        if self.repository is not None:
            for (name, version), describer in list(self.describers.items()):
                path = self.repository / model / str(version)
                if name == model and _is_another(path, describer):
                    return f"{path} {CHANGED}"
        return ""


def _is_another(version: Path, describer: TritonDescriber) -> bool:
    """Whether what was published there is not what it describes with."""
    return (version / MANIFEST).is_file() and Manifest.read(version).digest != describer.version.contract.digest
