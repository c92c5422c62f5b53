"""Writes a file so that nobody ever sees half of it."""

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from pspsearch_build.errors import BuildError


@contextmanager
def replacing(path: Path) -> Generator[Path]:
    """Yields a temporary path beside `path` to write to; it replaces `path` at the end. An error leaves nothing behind.

    The content is on disk before the rename. Raises BuildError if the folder cannot be written to.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            temporary = Path(folder, path.name)
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
    except OSError as error:
        raise BuildError(f"{path} cannot be written: {error.strerror or error}") from error


def sync(path: Path) -> None:
    """Returns when the file is on disk, or the names in the folder are."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
