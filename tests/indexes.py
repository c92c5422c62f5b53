"""Real indexes for tests."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pspsearch.domain import CollectionSettings, Generation, IndexKind
from pspsearch.index.bases.builder import BaseBuilder
from pspsearch.index.index import SegmentedIndex
from pspsearch.index.memory import IndexMemory
from pspsearch.index.upkeep import Bounds
from pspsearch.ports import RowSource
from tests.fakes.index import DIMENSION, GENERATION

ROOM = IndexMemory(cpu_bytes=1 << 30)

NEVER = Bounds(fresh_bytes=1 << 40, dead_rows=1 << 40, snapshot_pause_s=1e9)
"""No work is due by itself: the tests say when something must be done."""

PARTS = ("rows", "columns", "base", "manifest.json", "matrix")
"""The parts of a snapshot."""


@dataclass
class Recalls:
    """The recall of many searches on approximate bases, over a whole run."""

    shares: list[float] = field(default_factory=list[float])

    def add(self, found: int, true: int) -> None:
        """Adds a search that found `found` of the `true` nearest rows."""
        if true:
            self.shares.append(found / true)

    def check(self, kind: IndexKind) -> None:
        """Checks that recall reaches what bases are tuned for, within three standard errors.

        Exact bases add no searches.
        """
        assert bool(self.shares) is (kind is not IndexKind.EXACT)
        if self.shares:
            error = float(np.std(self.shares)) / len(self.shares) ** 0.5
            assert np.mean(self.shares) >= 0.95 - 3 * error, (np.mean(self.shares), error)


def builder(kind: IndexKind) -> BaseBuilder:
    """Returns a builder for the tests' generation, on a CPU."""
    return BaseBuilder(DIMENSION, kind, 0.95, ROOM)


async def open_index(
    folder: Path, source: RowSource, kind: IndexKind, bounds: Bounds = NEVER, generation: Generation = GENERATION
) -> SegmentedIndex:
    """Opens an index over the rows of a source."""
    settings = CollectionSettings("pspnet", index_kind=kind)
    return await SegmentedIndex.open(folder, generation, settings, source, memory=ROOM, bounds=bounds)


def snapshot_files(folder: Path) -> dict[str, tuple[Path, int]]:
    """Returns the files that an index left, each with how many of its bytes count; the matrix is called `matrix`."""
    (snapshot,) = folder.glob("snapshot-*")
    manifest = json.loads((snapshot / "manifest.json").read_bytes())["manifest"]
    files = {path.name: (path, path.stat().st_size) for path in snapshot.iterdir()}
    return {**files, "matrix": (folder / manifest["matrix"], manifest["rows"] * 2 * DIMENSION)}


def flip(path: Path, place: int) -> None:
    """Flips one bit of the byte at `place`."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def cut(path: Path, place: int) -> None:
    """Cuts the file off at `place`."""
    os.truncate(path, place)


def remove(path: Path, _: int) -> None:
    """Removes the file."""
    path.unlink()


DAMAGES = (flip, cut, remove)
