"""Real indexes for tests."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pspsearch.domain import CollectionSettings, Generation, IndexKind
from pspsearch.index.bases.builder import BaseBuilder
from pspsearch.index.bases.choice import IndexMemory
from pspsearch.index.index import SegmentedIndex
from pspsearch.index.upkeep import Bounds
from pspsearch.ports import RowSource
from tests.fakes.index import DIMENSION, GENERATION

ROOM = IndexMemory(cpu_bytes=1 << 30)

NEVER = Bounds(fresh_bytes=1 << 40, dead_rows=1 << 40, snapshot_pause_s=1e9)
"""The tests say when something is to be done."""

PARTS = ("rows", "columns", "base", "manifest.json", "matrix")
"""What a snapshot consists of."""


@dataclass
class Recalls:
    """Of many searches on approximate bases, over a whole run."""

    shares: list[float] = field(default_factory=list[float])

    def add(self, found: int, true: int) -> None:
        """One search that found so many of the true nearest."""
        if true:
            self.shares.append(found / true)

    def check(self, kind: IndexKind) -> None:
        """Not below what bases are tuned for, which is known as far as three standard errors; exact ones have none."""
        assert bool(self.shares) is (kind is not IndexKind.EXACT)
        if self.shares:
            error = float(np.std(self.shares)) / len(self.shares) ** 0.5
            assert np.mean(self.shares) >= 0.95 - 3 * error, (np.mean(self.shares), error)


def builder(kind: IndexKind) -> BaseBuilder:
    """For the tests' generation, on a CPU."""
    return BaseBuilder(DIMENSION, kind, 0.95, ROOM)


async def open_index(
    folder: Path, source: RowSource, kind: IndexKind, bounds: Bounds = NEVER, generation: Generation = GENERATION
) -> SegmentedIndex:
    """Over the rows of a source."""
    settings = CollectionSettings("pspnet", index_kind=kind)
    return await SegmentedIndex.open(folder, generation, settings, source, memory=ROOM, bounds=bounds)


def snapshot_files(folder: Path) -> dict[str, tuple[Path, int]]:
    """The files that an index left, each with how many bytes of it count; the matrix is called `matrix`."""
    (snapshot,) = folder.glob("snapshot-*")
    manifest = json.loads((snapshot / "manifest.json").read_bytes())["manifest"]
    files = {path.name: (path, path.stat().st_size) for path in snapshot.iterdir()}
    return {**files, "matrix": (folder / manifest["matrix"], manifest["rows"] * 2 * DIMENSION)}


def flip(path: Path, place: int) -> None:
    """Changes one bit."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def cut(path: Path, place: int) -> None:
    """Ends the file there."""
    os.truncate(path, place)


def remove(path: Path, _: int) -> None:
    """Takes the file away."""
    path.unlink()


DAMAGES = (flip, cut, remove)
