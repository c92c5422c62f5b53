"""How a call ends that has failed."""

import asyncio
import traceback
from typing import NoReturn, cast

import grpc
import grpc.aio

from pspsearch.errors import bare
from pspsearch.rpc.context import Context


async def abort(
    context: Context, code: grpc.StatusCode, words: str, metadata: tuple[tuple[str, str | bytes], ...] = ()
) -> NoReturn:
    """Raises what tells gRPC that the call is over; CancelledError where its caller is gone.

    gRPC keeps what is raised beside the context, which the frames have that it came through: in that circle a refused
    request would stay in memory until the garbage collector finds it. So the frames are cleared when the task is done.
    """
    try:
        await context.abort(code, words, metadata)
    except grpc.aio.InternalError as gone:
        raise asyncio.CancelledError from gone
    except grpc.aio.AbortError as aborted:
        _clear_when_done(bare(aborted))
        raise
    raise AssertionError("an abort raises")


def _clear_when_done(error: BaseException) -> None:
    task = cast("asyncio.Task[object]", asyncio.current_task())
    task.add_done_callback(lambda _: traceback.clear_frames(error.__traceback__))
