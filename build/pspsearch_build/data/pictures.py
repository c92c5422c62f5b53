"""Pictures and their classes, from folders and lists."""

import csv
import hashlib
import logging
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pspsearch.errors import BadImage
from pspsearch.images.pixels import decode_pixels
from pspsearch.model.contract import InputShape
from pspsearch_build.atomic_file import replacing
from pspsearch_build.data import masks
from pspsearch_build.errors import BuildError

log = logging.getLogger(__name__)

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
_COLUMNS = ("path", "label", "split")


@dataclass(frozen=True, slots=True)
class Picture:
    """One file and the class that it shows."""

    path: Path
    label: str


@dataclass(frozen=True, slots=True)
class PictureSet:
    """A set of at least one picture, ordered by path."""

    name: str
    """Where the pictures come from, for people to read."""
    pictures: tuple[Picture, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """All classes, sorted."""
        return tuple(sorted({picture.label for picture in self.pictures}))

    @property
    def numbers(self) -> NDArray[np.int64]:
        """The class of each picture, as its place in `labels`."""
        places = {label: place for place, label in enumerate(self.labels)}
        return np.array([places[picture.label] for picture in self.pictures], np.int64)

    def digest(self) -> str:
        """The sha256, in hexadecimal, of every class with the contents of its pictures, wherever the files lie."""
        lines = sorted(f"{picture.label} {_file_digest(picture.path)}" for picture in self.pictures)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def only(self, labels: Collection[str]) -> "PictureSet":
        """The pictures of the given classes. Raises BuildError if there are none."""
        return _collect(self.name, [picture for picture in self.pictures if picture.label in labels])


def read_pixels(path: Path, shape: InputShape) -> NDArray[np.uint8] | None:
    """The picture as a network with that input sees it. Logs a warning and returns None if it cannot be read."""
    try:
        return decode_pixels(path.read_bytes(), shape)
    except (OSError, BadImage) as error:
        log.warning("%s is left out: %s", path, error)
        return None


def read_pictures(source: str) -> PictureSet:
    """Reads a folder of class folders, or a list: `FILE.csv`, or `FILE.csv@SPLIT` for one split of it."""
    if Path(source).is_dir():
        return read_folder(Path(source))
    path, _, split = source.partition("@")
    return read_list(Path(path), split)


def read_folder(root: Path) -> PictureSet:
    """Reads every picture below a folder. Its class is the path of its folder, relative to `root`."""
    for folder in _folders(root):
        if not any(folder.iterdir()):
            raise BuildError(f"the class folder {folder} is empty")
    paths = _files(root)
    loose = next((path for path in paths if path.parent == root), None)
    if loose is not None:
        raise BuildError(f"{loose} lies in no class folder: a picture's class is its folder below {root}")
    return _collect(str(root), [Picture(path, path.parent.relative_to(root).as_posix()) for path in paths])


def read_unlabelled(root: Path) -> PictureSet:
    """Reads every picture below a folder, each as a class of its own."""
    return _collect(str(root), [Picture(path, path.relative_to(root).as_posix()) for path in _files(root)])


def read_list(path: Path, split: str = "") -> PictureSet:
    """Reads the pictures that a CSV names, or those of one split; their paths are relative to the file.

    The first line is `path,label` or `path,label,split`.
    """
    pictures: dict[Path, Picture] = {}
    for line, row in _rows(path):
        if split and row.get("split") != split:
            continue
        picture = Picture(path.parent / row["path"], row["label"])
        if not picture.path.is_file():
            raise BuildError(f"line {line} of {path} names {picture.path}, which is not a file")
        if pictures.setdefault(picture.path, picture).label != picture.label:
            raise BuildError(f"line {line} of {path} gives {row['path']} a second class, {picture.label!r}")
    return _collect(f"{path}@{split}" if split else str(path), list(pictures.values()))


def write_list(pictures: PictureSet, path: Path) -> None:
    """Writes the CSV that `read_list` reads, atomically and durably."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS[:2])
        for picture in pictures.pictures:
            writer.writerow([os.path.relpath(picture.path, path.parent), picture.label])


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The lines of a CSV with their numbers, from 1; each has a path and a label."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = reader.fieldnames or []
            if not {"path", "label"} <= set(columns) <= set(_COLUMNS):
                raise BuildError(f"{path} begins with the columns {list(columns)}, and needs path, label[, split]")
            for row in reader:
                if None in row or not row["path"] or not row["label"]:
                    raise BuildError(f"line {reader.line_num} of {path} is not a path and a label")
                yield reader.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BuildError(f"the list {path} cannot be read: {error}") from error


def _files(root: Path) -> list[Path]:
    paths = root.rglob("*")
    return [path for path in paths if path.suffix.lower() in SUFFIXES and not path.name.endswith(masks.SUFFIX)]


def _folders(root: Path) -> list[Path]:
    if not root.is_dir():
        raise BuildError(f"{root} is not a folder")
    return [path for path in root.rglob("*") if path.is_dir()]


def _collect(name: str, pictures: list[Picture]) -> PictureSet:
    if not pictures:
        raise BuildError(f"{name} holds no pictures (.jpg, .png or .webp)")
    return PictureSet(name, tuple(sorted(pictures, key=lambda picture: picture.path)))


def _file_digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise BuildError(f"{path} cannot be read: {error}") from error
