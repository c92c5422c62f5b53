"""A model repository on disk, checked before Triton is asked to load it."""

import contextlib
import stat
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from importlib.machinery import all_suffixes
from pathlib import Path

from pspsearch.errors import RepositoryError
from pspsearch.model.manifest import MANIFEST, Manifest

CONFIG = "config.pbtxt"


@dataclass(frozen=True, slots=True)
class CheckedRepository:
    """Which models may be loaded, and one sentence for each that may not."""

    sound: tuple[str, ...]
    broken: dict[str, RepositoryError]


def default_repository() -> Path:
    """The repository that ships: inside the installed package, or at the root of a source tree."""
    package = Path(__file__).parents[1]
    installed = package / "model_repository"
    return installed if installed.is_dir() else package.parents[1] / "model_repository"


@contextlib.contextmanager
def readable(path: Path) -> Generator[None]:
    """Raises RepositoryError if the block cannot read the path or what is under it, or if that goes away meanwhile."""
    try:
        yield
    except OSError as error:
        raise RepositoryError(f"{error.filename or path} cannot be read: {error.strerror}") from error


def check_repository(root: Path) -> CheckedRepository:
    """Reads every file of every model; raises RepositoryError only if `root` itself is unusable."""
    with readable(root):
        if not root.is_dir():
            raise RepositoryError(f"{root} is not a folder: a model repository holds one folder per model")
        folders = list(_visible_folders(root))
    sound: list[str] = []
    broken: dict[str, RepositoryError] = {}
    for folder in folders:
        try:
            check_model(folder)
            sound.append(folder.name)
        except RepositoryError as error:
            broken[folder.name] = error
    if not sound and not broken:
        raise RepositoryError(f"{root} holds no model")
    return CheckedRepository(tuple(sound), broken)


def check_model(folder: Path) -> None:
    """Raises RepositoryError for the first file that is missing, changed, or not where Triton looks for it.

    A version without a manifest was not published by pspsearch; whether it is sound is for Triton to judge.
    """
    with readable(folder):
        if not (folder / CONFIG).is_file():
            raise RepositoryError(f"{folder / CONFIG} is missing")
        for path in (folder, folder / CONFIG):
            _check_owned(path)
        versions = list(_visible_folders(folder))
        _check_beside(folder)
    if not versions:
        raise RepositoryError(f"{folder} holds no version: a version is a folder whose name is a number")
    for version in versions:
        _check_version(version)


def find_broken_versions(folder: Path) -> dict[int, RepositoryError]:
    """The versions of a model whose files are missing, unreadable or not those published; none without a folder.

    The key 0 holds what concerns no numbered version. Raises RepositoryError if the folder itself cannot be read.
    """
    broken: dict[int, RepositoryError] = {}
    with readable(folder):
        versions = list(_visible_folders(folder)) if folder.is_dir() else []
        try:
            if versions:
                _check_beside(folder)
        except RepositoryError as error:
            broken[0] = error
    for version in versions:
        try:
            _check_version(version)
        except RepositoryError as error:
            broken[int(version.name) if version.name.isdecimal() else 0] = error
    return broken


def _check_beside(folder: Path) -> None:
    """Refuses programs beside the versions: Python would import them before those in a version's folder."""
    for path in sorted(folder.iterdir()):
        if path.name.endswith(tuple(all_suffixes())):
            raise RepositoryError(f"{path} is not part of a version, and Python would run it: delete it")


def find_published(folder: Path) -> dict[int, Path]:
    """The versions of a model that pspsearch published, which have a manifest; none without a folder."""
    with readable(folder):
        versions = list(_visible_folders(folder)) if folder.is_dir() else []
    return {int(path.name): path for path in versions if path.name.isdecimal() and _is_published(path)}


def _check_version(version: Path) -> None:
    if not version.name.isdecimal() or int(version.name) < 1:
        raise RepositoryError(f"{version} is not a version: its name is not a number from 1 up")
    with readable(version):
        files = list(version.iterdir())
        if not files:
            raise RepositoryError(f"{version} is empty")
        for path in (version, *files):
            _check_owned(path)
        if _is_published(version):
            Manifest.read(version).verify(version)


def _check_owned(path: Path) -> None:
    """Refuses links and what everybody can write: what is loaded from here runs with the server's rights."""
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        raise RepositoryError(f"{path} is a link: what it leads to is not part of the repository")
    if mode & stat.S_IWOTH:
        raise RepositoryError(f"{path} can be written by everybody on this machine: chmod o-w it")


def _is_published(version: Path) -> bool:
    return (version / MANIFEST).exists()


def _visible_folders(root: Path) -> Iterator[Path]:
    """Yields the folders, without hidden ones, which are versions that are still being published."""
    return (path for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith("."))
