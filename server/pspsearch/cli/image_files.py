"""Finds the files that an import takes, and chooses their ids."""

import glob
import os
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pspsearch.errors import InvalidRequest

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp")


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One file to import."""

    path: str
    id: str
    """The file's path relative to the argument that named it, with `/`, in Unicode's composed form (NFC)."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One file that was not imported, and why."""

    path: str
    reason: str


@dataclass(slots=True)
class Found:
    """What the arguments name, in order."""

    files: list[ImageFile] = field(default_factory=list[ImageFile])
    refused: list[Refusal] = field(default_factory=list[Refusal])
    """Folders that cannot be read, files whose names are not UTF-8, and files with the id of an earlier one."""


def find_images(arguments: Iterable[str], *, all_files: bool = False) -> Found:
    """Finds the files that the arguments name: files, folders with everything below them, and patterns.

    Below folders and patterns, hidden files and folders and names without an image's ending are skipped unless
    `all_files`. Folders that are symbolic links are not entered. Raises InvalidRequest if an argument names nothing.
    """
    found = Found()
    owners: dict[str, str] = {}
    for argument in arguments:
        for path, root in _expand(argument, all_files, found.refused):
            file = ImageFile(path, unicodedata.normalize("NFC", Path(path).relative_to(root).as_posix()))
            if not _is_utf8(path):
                shown = path.encode(errors="backslashreplace").decode()
                found.refused.append(Refusal(shown, "its name is not UTF-8"))
            elif file.id in owners:
                found.refused.append(Refusal(path, f"its id {file.id!r} is that of {owners[file.id]} already"))
            else:
                owners[file.id] = path
                found.files.append(file)
    return found


def _expand(argument: str, all_files: bool, refused: list[Refusal]) -> Iterator[tuple[str, Path]]:
    """Yields each file with the folder that its id is relative to."""
    path = Path(argument)
    if path.is_dir():
        yield from ((file, path) for file in _walk(argument, all_files, refused))
    elif path.exists():
        yield argument, path.parent
    elif glob.has_magic(argument):
        yield from _match(argument, all_files, refused)
    else:
        raise InvalidRequest(f"there is no file or folder {argument}")


def _match(pattern: str, all_files: bool, refused: list[Refusal]) -> Iterator[tuple[str, Path]]:
    """Yields what a pattern matches. Ids are relative to the part of the path before the first wildcard."""
    parts = Path(pattern).parts
    root = Path(*parts[: next(number for number, part in enumerate(parts) if glob.has_magic(part))])
    matched = sorted(glob.glob(pattern, recursive=True, include_hidden=all_files))  # noqa: PTH207 - Path.glob always includes hidden
    if not matched:
        raise InvalidRequest(f"nothing matches {pattern}")
    seen: set[str] = set()
    for match in matched:
        files = _walk(match, all_files, refused) if Path(match).is_dir() else [match]
        for file in files:
            if file not in seen and (all_files or _looks_like_image(file)):
                seen.add(file)
                yield file, root


def _walk(folder: str, all_files: bool, refused: list[Refusal]) -> Iterator[str]:
    def refuse(error: OSError) -> None:
        refused.append(Refusal(str(error.filename), f"cannot be read: {error.strerror}"))

    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if all_files or not name.startswith("."))
        for name in sorted(names):
            if all_files or (not name.startswith(".") and _looks_like_image(name)):
                yield os.path.join(parent, name)  # noqa: PTH118 - a million Paths would cost more than their images' ids


def _looks_like_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES)


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
