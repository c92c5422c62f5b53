"""What the client that blocks does beside its caller, in threads; `asynchronous/tasks.py` is the same in tasks."""

import contextlib
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TypeVar

import grpc

Request = TypeVar("Request")
Response = TypeVar("Response")


@contextlib.contextmanager
def beside(work: Callable[[], None]) -> Generator[None]:
    """Works while the block runs. Nobody can end a thread: the work looks itself whether it is still wanted."""
    threading.Thread(target=work, name="pspsearch client", daemon=True).start()
    yield


@contextlib.contextmanager
def streaming(
    method: "grpc.StreamStreamMultiCallable[Request, Response]",
    requests: Iterator[Request],
    metadata: tuple[tuple[str, str], ...],
) -> Generator[Iterable[Response]]:
    """A call that sends the requests, read in a thread of gRPC's, while the block reads its responses.

    It ends with the block.
    """
    call = method(requests, metadata=metadata)
    try:
        yield call
    finally:
        call.cancel()


def is_callers(error: BaseException) -> bool:
    """Whether what ended the caller's iterable comes out of it; else gRPC has let go of what reads it."""
    return not isinstance(error, GeneratorExit)
