"""Locks a model's folder, so that one publisher at a time writes there."""

import contextlib
import fcntl
import os
from collections.abc import Generator
from pathlib import Path

from pspsearch.errors import RepositoryError
from pspsearch_build.errors import PublishRefused


@contextlib.contextmanager
def exclusive(model: Path) -> Generator[None]:
    """Holds the model's lock. Removes the folder again if a refused publication leaves it empty.

    Raises PublishRefused if somebody else holds the lock, and RepositoryError if there is no repository.
    """
    if not model.parent.is_dir():
        raise RepositoryError(f"{model.parent} is not a folder: make it first, it will be the model repository")
    model.mkdir(exist_ok=True)
    lock = os.open(model, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PublishRefused(f"somebody else is publishing into {model} just now") from error
        yield
    finally:
        os.close(lock)
        with contextlib.suppress(OSError):
            model.rmdir()  # fails, as it should, unless the folder is empty
