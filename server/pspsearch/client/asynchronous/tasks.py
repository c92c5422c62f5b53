"""What the client that awaits does in tasks beside its caller. `blocking/threads.py` does the same in threads."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import grpc

from pspsearch.client.messages import read_image
from pspsearch.client.types import ItemInput, Region

Request = TypeVar("Request")
Response = TypeVar("Response")
_T = TypeVar("_T")


@contextlib.asynccontextmanager
async def beside(work: Callable[[], Coroutine[Any, Any, None]]) -> AsyncGenerator[None]:
    """Runs `work` beside the block, and cancels it when the block ends. Then raises the error of `work`, if any."""
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
    """Makes a call that sends the requests while the block reads the responses. The call ends with the block.

    gRPC could read the requests itself, but would not stop reading when the server ends the call.
    """
    call = method(metadata=metadata)

    async def write() -> None:
        try:
            async for request in requests:
                await call.write(request)
        except (grpc.RpcError, asyncio.InvalidStateError):
            return  # the call has ended, and its reader gets the reason
        finally:
            await call.done_writing()

    async with beside(write):
        try:
            yield call
        finally:
            call.cancel()


def is_callers(error: BaseException) -> bool:
    """Whether the error comes from the caller's iterable. If not, the task that reads it must end."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is None or task.cancelling() == 0  # something that the iterable awaited was cancelled
    return isinstance(error, Exception)


async def each(things: AsyncIterable[_T] | Iterable[_T]) -> AsyncIterator[_T]:
    """Iterates over either kind of iterable."""
    if isinstance(things, AsyncIterable):
        async for thing in things:
            yield thing
    else:
        for thing in things:
            yield thing


async def load(thing: Path | _T) -> bytes | _T:
    """Reads a file without blocking the event loop, and returns its bytes. Returns anything else unchanged.

    In a Region it reads the file of the image.
    """
    if isinstance(thing, Region):
        return dataclasses.replace(thing, image=await load(thing.image))
    return await asyncio.to_thread(read_image, thing) if isinstance(thing, Path) else thing


async def load_all(things: Iterable[Path | _T]) -> Sequence[bytes | _T]:
    """Applies `load` to each."""
    return [await load(thing) for thing in things]


async def load_item(item: ItemInput) -> ItemInput:
    """Applies `load` to an item's source."""
    return dataclasses.replace(item, source=await load(item.source))


async def load_items(items: Iterable[ItemInput]) -> Sequence[ItemInput]:
    """Applies `load_item` to each."""
    return [await load_item(item) for item in items]
