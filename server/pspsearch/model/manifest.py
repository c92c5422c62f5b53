"""Lists a model version's files with their digests, so that an edited or half-copied version is noticed."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

from pspsearch.errors import DigestMismatch, RepositoryError

MANIFEST = "manifest.json"
_COMPILED = "__pycache__"
"""The folder of what Python has compiled; Triton's Python writes it wherever it may."""
_INSTALLED = Path(__file__).parents[1] / "model_repository"
"""The repository in an installed package. pip compiles all that it installs; the bundled Triton runs none of that."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The sha256 of each file in a version folder, by name."""

    files: dict[str, str]

    @property
    def digest(self) -> str:
        """One digest over all the files: it changes when any of them does."""
        lines = "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(self.files.items()))
        return hashlib.sha256(lines.encode()).hexdigest()

    @classmethod
    def of_files(cls, folder: Path) -> Self:
        """Reads every file of the folder except the manifest itself."""
        names = sorted(path.name for path in folder.iterdir() if path.is_file() and path.name != MANIFEST)
        return cls({name: file_sha256(folder / name) for name in names})

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Reads the manifest as it was published; does not look at the files."""
        path = folder / MANIFEST
        try:
            raw = cast(dict[str, Any], json.loads(path.read_text("utf-8")))
            return cls({str(name): str(sha256) for name, sha256 in raw["files"].items()})
        except FileNotFoundError as error:
            raise RepositoryError(f"{path} is missing") from error
        except OSError as error:
            raise RepositoryError(f"{path} cannot be read: {error.strerror}") from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise RepositoryError(f"{path} is not a manifest: {error}") from error

    def write(self, folder: Path) -> None:
        """Writes the manifest; the publisher makes it durable."""
        text = json.dumps({"files": self.files}, indent=2, sort_keys=True)
        (folder / MANIFEST).write_text(text + "\n", "utf-8")

    def verify(self, folder: Path) -> None:
        """Reads every file; RepositoryError names the first that is missing, changed, or not in the manifest."""
        for name, sha256 in sorted(self.files.items()):
            path = folder / name
            if path.name != name or path.is_symlink():
                raise RepositoryError(f"{folder / MANIFEST} names {name!r}, which is not a plain file beside it")
            if not path.is_file():
                raise RepositoryError(f"{path} is missing, though the manifest lists it")
            if file_sha256(path) != sha256:
                raise DigestMismatch(f"{path} is not the file that was published: its sha256 differs")
        there = {path.name for path in folder.iterdir()} - {MANIFEST}
        if folder.is_relative_to(_INSTALLED):
            there.discard(_COMPILED)
        for name in sorted(there - self.files.keys()):
            what = "it was not published with this version"
            if name == _COMPILED:
                what = "Python would run what is in it instead of the program that was published; delete it"
            raise RepositoryError(f"{folder / name} is not in the manifest: {what}")


def file_sha256(path: Path) -> str:
    """The digest of a file, which is read once and never held whole."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
