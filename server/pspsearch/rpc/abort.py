"""Ends a call that has failed."""

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
    """Raises the error that tells gRPC that the call is over, or CancelledError if the caller is gone.

    gRPC keeps the raised error with the context, and the error's frames refer to the context. This cycle would keep a
    refused request in memory until the garbage collector runs, so the frames are cleared when the task is done.
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
