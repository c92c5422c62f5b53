"""What the client that blocks does in threads beside its caller. `asynchronous/tasks.py` does the same in tasks."""

import contextlib
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TypeVar

import grpc

Request = TypeVar("Request")
Response = TypeVar("Response")


@contextlib.contextmanager
def beside(work: Callable[[], None]) -> Generator[None]:
    """Runs `work` in a thread beside the block. A thread cannot be ended, so `work` must check whether to go on."""
    threading.Thread(target=work, name="pspsearch client", daemon=True).start()
    yield


@contextlib.contextmanager
def streaming(
    method: "grpc.StreamStreamMultiCallable[Request, Response]",
    requests: Iterator[Request],
    metadata: tuple[tuple[str, str], ...],
) -> Generator[Iterable[Response]]:
    """Makes a call that sends the requests while the block reads the responses. The call ends with the block.

    The requests are read in one of gRPC's threads.
    """
    call = method(requests, metadata=metadata)
    try:
        yield call
    finally:
        call.cancel()


def is_callers(error: BaseException) -> bool:
    """Whether the error comes from the caller's iterable. If not, gRPC has closed the generator that reads it."""
    return not isinstance(error, GeneratorExit)
