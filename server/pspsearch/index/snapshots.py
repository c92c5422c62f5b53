"""What an index leaves on disk so that the next start is quick. It is never needed, and never trusted unchecked."""

import logging
import os
import re
import shutil
from pathlib import Path

import numpy as np

from pspsearch.domain import Generation, Sequences
from pspsearch.index.arrays import Mask, Matrix
from pspsearch.index.bases.base import Base
from pspsearch.index.bases.base_file import IndexDamaged
from pspsearch.index.bases.builder import BaseBuilder
from pspsearch.index.bases.making import read_base
from pspsearch.index.snapshot_manifest import SnapshotManifest, file_digest
from pspsearch.index.table.matrix_file import MatrixFile
from pspsearch.index.table.table import Table
from pspsearch.index.view import View

log = logging.getLogger(__name__)

BASE = "base"
SNAPSHOT = "snapshot"
MATRIX = "matrix"
_NAME = re.compile(rf"\.?(?:{SNAPSHOT}|{MATRIX})-(\d+)")

_PRIVATE, _PRIVATE_FOLDER = 0o600, 0o700

_Mark = tuple[str, int, int]
"""Tells the views of one index apart by the matrix, the base's row count, and the row count."""


class Snapshots:
    """The folder of one index: `matrix-N` is the matrix of a table, `snapshot-N` a folder with the rest of a view.

    A snapshot is written under a hidden name, synced and renamed, and then the older ones are removed. A matrix only
    ever grows, so a snapshot can name the matrix in use: later rows lie beyond those that it counts.
    """

    def __init__(self, folder: Path, generation: Generation, builder: BaseBuilder) -> None:
        """Creates the folder if it is missing. Raises OSError if that fails."""
        folder.parent.mkdir(_PRIVATE_FOLDER, parents=True, exist_ok=True)
        folder.mkdir(_PRIVATE_FOLDER, exist_ok=True)
        self._folder = folder
        self._generation = generation
        self._builder = builder
        self._last: _Mark | None = None

    def has(self, view: View) -> bool:
        """Whether the last snapshot is of this view, apart from rows that died since."""
        return self._last == _mark(view)

    def has_base(self, view: View) -> bool:
        """Whether the last snapshot has this view's base."""
        return self._last is not None and self._last[:2] == _mark(view)[:2]

    def new_matrix(self) -> Path:
        """Returns the path of a new table's matrix."""
        return self._new_path(MATRIX)

    def save(self, view: View) -> None:
        """Saves this view durably and removes everything else.

        Raises OSError, and keeps what was there, if that fails.
        """
        path = self._new_path(SNAPSHOT)
        hidden = path.with_name(f".{path.name}")
        hidden.mkdir(_PRIVATE_FOLDER)
        try:
            self._write(view, hidden)
            hidden.rename(path)
        except BaseException:
            shutil.rmtree(hidden, ignore_errors=True)  # the disk may be full
            raise
        _sync(self._folder)
        self._remove_all_but({path.name, view.table.matrix.path.name})
        self._last = _mark(view)

    def _write(self, view: View, folder: Path) -> None:
        view.table.write(folder, view.rows)
        view.base.write(folder / BASE)
        view.table.matrix.sync()
        digests = {file.name: file_digest(file) for file in folder.iterdir()}
        SnapshotManifest(
            generation=self._generation.key,
            fingerprint=self._generation.fingerprint,
            dimension=self._generation.dimension,
            device=self._builder.memory.device,
            rows=view.rows,
            sequence=view.sequence,
            matrix=view.table.matrix.path.name,
            digests={**digests, MATRIX: view.table.matrix.digest(view.rows)},
        ).write(folder)
        for file in folder.iterdir():
            file.chmod(_PRIVATE)
            _sync(file)
        _sync(folder)

    def load(self, current: Sequences, last_change: int) -> View | None:
        """Loads the newest sound snapshot, with the `current` rows alive. Returns None if there is none.

        A snapshot with changes after the catalog's last one belongs to another catalog, in which the same numbers were
        other rows. Everything else in the folder is removed. Raises OSError if the folder cannot be read.
        """
        for path in self._saved():
            try:
                view, is_whole = self._load(path, current, last_change)
            except IndexDamaged as error:
                log.warning("a snapshot is of no use: %s", error)
            else:
                self._remove_all_but({path.name, view.table.matrix.path.name})
                self._last = _mark(view) if is_whole else None
                return view
        self._remove_all_but(set())
        return None

    def _load(self, path: Path, current: Sequences, last_change: int) -> tuple[View, bool]:
        """Returns the view, and whether its base is the stored one."""
        manifest = SnapshotManifest.read(path)
        manifest.check_belongs(path, self._generation)
        if manifest.sequence > last_change:
            raise IndexDamaged(f"{path}: it knows changes that the catalog does not")
        table = self._load_table(path, manifest)
        rows = table.find(current[current <= manifest.sequence], manifest.rows)
        if (rows < 0).any():
            raise IndexDamaged(f"{path}: it lacks rows that the catalog has")
        alive: Mask = np.zeros(manifest.rows, np.bool_)
        alive[rows] = True
        base = self._load_base(path, manifest, table.matrix.first(manifest.rows))
        return View(table, alive, len(rows), base or self._builder.build_empty(), manifest.sequence), base is not None

    def _load_table(self, path: Path, manifest: SnapshotManifest) -> Table:
        manifest.check_files(path, Table.FILES)
        matrix_path = self._folder / manifest.matrix
        if not matrix_path.is_file():
            raise IndexDamaged(f"{matrix_path} is missing")
        matrix = MatrixFile(matrix_path, manifest.dimension, manifest.rows)
        if matrix.digest(manifest.rows) != manifest.digests[MATRIX]:
            raise IndexDamaged(f"{matrix_path} is not what was written")
        return Table.read(path, matrix)

    def _load_base(self, path: Path, manifest: SnapshotManifest, matrix: Matrix) -> Base | None:
        """Returns None if the base is damaged or for another device; the next merge then builds it anew."""
        try:
            manifest.check_files(path, [BASE])
            manifest.check_device(path, self._builder.memory.device)
            return read_base(path / BASE, matrix)
        except IndexDamaged as error:
            log.warning("a base is built again: %s", error)
            return None

    def _saved(self) -> list[Path]:
        """Returns the saved snapshots, newest first."""
        return sorted(self._folder.glob(f"{SNAPSHOT}-*"), key=_number, reverse=True)

    def _new_path(self, kind: str) -> Path:
        highest = max((_number(path) for path in self._folder.iterdir()), default=0)
        return self._folder / f"{kind}-{highest + 1}"

    def _remove_all_but(self, names: set[str]) -> None:
        for path in self._folder.iterdir():
            if path.name not in names and _NAME.fullmatch(path.name):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()


def _mark(view: View) -> _Mark:
    return view.table.matrix.path.name, view.base.rows, view.rows


def _number(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else 0


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
