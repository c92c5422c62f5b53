"""How one request is received, which nobody has seen yet."""

import asyncio
import contextlib
from collections.abc import Generator
from typing import Any

import grpc.aio

from pspsearch.errors import InvalidRequest, Overloaded
from pspsearch.rpc.budget import Account

_LATE_S = 0.1
"""After so long there may be much of a request that is not there yet; until then there is what a line can carry."""


async def receive(context: "grpc.aio.ServicerContext[Any, Any]", account: Account, most_bytes: int) -> bytes:
    """The one request of a call. While it is late it counts as the largest: gRPC does not tell how much is there.

    Overloaded where there is no room for that.
    """
    with _watch(account, most_bytes):
        content = await context.read()
    if content is grpc.aio.EOF:
        raise InvalidRequest("the call has ended before its request")
    return content


@contextlib.contextmanager
def _watch(account: Account, most_bytes: int) -> Generator[None]:
    """The block waits for a request."""
    task = asyncio.current_task()
    assert task is not None
    held = contextlib.ExitStack()
    refusals: list[Overloaded] = []

    def is_late() -> None:
        try:
            held.enter_context(account.hold(most_bytes))
        except Overloaded as error:
            refusals.append(error)
            task.cancel()

    timer = asyncio.get_running_loop().call_later(_LATE_S, is_late)
    try:
        yield
    except asyncio.CancelledError:
        if not refusals:
            raise
        task.uncancel()
        raise refusals[0] from None
    finally:
        timer.cancel()
        held.close()
