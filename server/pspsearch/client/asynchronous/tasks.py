"""What the client that awaits does beside its caller, in tasks; `blocking/threads.py` is the same in threads."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import grpc

from pspsearch.client.messages import read_image
from pspsearch.client.types import ItemInput

Request = TypeVar("Request")
Response = TypeVar("Response")
_T = TypeVar("_T")


@contextlib.asynccontextmanager
async def beside(work: Callable[[], Coroutine[Any, Any, None]]) -> AsyncGenerator[None]:
    """Works while the block runs, and is cancelled with its end; raises then what the work raised."""
    working = asyncio.create_task(work())
    try:
        yield
    finally:
        working.cancel()
        await asyncio.wait([working])
    if not working.cancelled():
        working.result()


@contextlib.asynccontextmanager
async def streaming(
    method: "grpc.aio.StreamStreamMultiCallable[Request, Response]",
    requests: AsyncIterator[Request],
    metadata: tuple[tuple[str, str], ...],
) -> AsyncGenerator[AsyncIterable[Response]]:
    """A call that sends the requests while the block reads its responses; it ends with the block.

    gRPC could read the requests by itself, but would not stop to when the server ends the call.
    """
    call = method(metadata=metadata)

    async def write() -> None:
        try:
            async for request in requests:
                await call.write(request)
        except (grpc.RpcError, asyncio.InvalidStateError):
            return  # the call has ended, and who reads it hears why
        finally:
            await call.done_writing()

    async with beside(write):
        try:
            yield call
        finally:
            call.cancel()


def is_callers(error: BaseException) -> bool:
    """Whether what ended the caller's iterable comes out of it; else the task that reads it is to end."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is None or task.cancelling() == 0  # something that the iterable waited for was cancelled
    return isinstance(error, Exception)


async def each(things: AsyncIterable[_T] | Iterable[_T]) -> AsyncIterator[_T]:
    """Iterates over either kind."""
    if isinstance(things, AsyncIterable):
        async for thing in things:
            yield thing
    else:
        for thing in things:
            yield thing


async def load(thing: Path | _T) -> bytes | _T:
    """The bytes of a file, read without holding up the event loop; what is no file stays as it is."""
    return await asyncio.to_thread(read_image, thing) if isinstance(thing, Path) else thing


async def load_all(things: Iterable[Path | _T]) -> Sequence[bytes | _T]:
    """The same for each."""
    return [await load(thing) for thing in things]


async def load_item(item: ItemInput) -> ItemInput:
    """The same for an item's source."""
    return dataclasses.replace(item, source=await load(item.source))


async def load_items(items: Iterable[ItemInput]) -> Sequence[ItemInput]:
    """The same for each."""
    return [await load_item(item) for item in items]
