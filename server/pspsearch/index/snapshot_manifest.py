"""What a snapshot says about itself."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from pspsearch.domain import Generation
from pspsearch.index.bases.base_file import IndexDamaged
from pspsearch.index.memory import Device

MANIFEST = "manifest.json"

FORMAT = 3
"""The format of everything in a snapshot.

A snapshot of another format is not read, and the index is built from the catalog. In the format before this one, whole
numbers were floats.
"""


@dataclass(frozen=True, slots=True)
class SnapshotManifest:
    """Which generation the snapshot is of, how far it goes, and the BLAKE2b digest of each of its files."""

    generation: int
    fingerprint: str
    dimension: int
    device: str
    """The device that the base was planned for."""
    rows: int
    """The number of rows, including dead ones."""
    sequence: int
    """The sequence of the last catalog change in it."""
    matrix: str
    """The name of the matrix's file, beside the snapshot."""
    digests: dict[str, str]
    """In hexadecimal, by file name; the entry `matrix` covers the matrix's first `rows` rows."""
    format: int = FORMAT

    def write(self, folder: Path) -> None:
        """Writes the manifest with its own digest, without syncing it."""
        fields = asdict(self)
        (folder / MANIFEST).write_text(json.dumps({"manifest": fields, "digest": _digest(fields)}, indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Reads what `write` wrote. Raises IndexDamaged for anything else."""
        path = folder / MANIFEST
        try:
            content = json.loads(path.read_bytes())
            fields = content["manifest"]
            if fields["format"] != FORMAT:
                raise IndexDamaged(f"{path} is of format {fields['format']}, not {FORMAT}")
            if content["digest"] != _digest(fields):
                raise IndexDamaged(f"{path} is not what was written")
            return cls(**fields)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise IndexDamaged(f"{path} is no manifest: {error!r}") from error

    def check_belongs(self, folder: Path, generation: Generation) -> None:
        """Raises IndexDamaged if the snapshot is another generation's."""
        own = (self.generation, self.fingerprint, self.dimension)
        if own != (generation.key, generation.fingerprint, generation.dimension):
            raise IndexDamaged(f"{folder} is of another generation")

    def check_device(self, folder: Path, device: Device) -> None:
        """Raises IndexDamaged if the base was planned for another device."""
        if self.device != device:
            raise IndexDamaged(f"{folder} has a base for another device, {self.device}")

    def check_files(self, folder: Path, names: Iterable[str]) -> None:
        """Raises IndexDamaged if one of these files is missing or changed."""
        for name in names:
            path = folder / name
            if file_digest(path) != self.digests.get(name):
                raise IndexDamaged(f"{path} is not what was written")


def file_digest(path: Path) -> str:
    """Returns the file's BLAKE2b digest in hexadecimal, or "" if the file cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "blake2b").hexdigest()
    except OSError:
        return ""


def _digest(fields: object) -> str:
    return hashlib.blake2b(json.dumps(fields, sort_keys=True).encode()).hexdigest()
