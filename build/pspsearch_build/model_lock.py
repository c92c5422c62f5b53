"""One writer at a time in a model's folder."""

import contextlib
import fcntl
import os
from collections.abc import Generator
from pathlib import Path

from pspsearch.errors import RepositoryError
from pspsearch_build.errors import PublishRefused


@contextlib.contextmanager
def exclusive(model: Path) -> Generator[None]:
    """One publisher at a time per model; a model folder made for a refused publication goes again."""
    if not model.parent.is_dir():
        raise RepositoryError(f"{model.parent} is not a folder: make it first, it will be the model repository")
    model.mkdir(exist_ok=True)
    lock = os.open(model, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise PublishRefused(f"somebody else is publishing into {model} just now") from error
    finally:
        os.close(lock)
        with contextlib.suppress(OSError):
            model.rmdir()  # only where it is empty
