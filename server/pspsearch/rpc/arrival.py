"""How one request is received, which nobody has seen yet."""

import asyncio
import contextlib
from collections.abc import Generator
from typing import Any

import grpc.aio

from pspsearch.callers.budget import Account
from pspsearch.errors import DeadlineExceeded, InvalidRequest, Overloaded, PspsearchError

_LATE_S = 0.1
"""After so long there may be much of a request that is not there yet; until then there is what a line can carry."""
_MOST_S = 120.0
"""Whatever its deadline is: whoever sends slower than 350 KB/s must send less at once."""


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
    refusals: list[PspsearchError] = []
    loop = asyncio.get_running_loop()

    def look() -> None:
        """Again in the next turn: what was there is taken first, where the loop itself was late."""
        timers.append(loop.call_soon(is_late))

    def is_late() -> None:
        try:
            held.enter_context(account.hold(most_bytes))
        except Overloaded as error:
            refuse(error)

    def refuse(error: PspsearchError) -> None:
        refusals.append(error)
        task.cancel()

    timers: list[asyncio.Handle] = [
        loop.call_later(_LATE_S, look),
        loop.call_later(_MOST_S, refuse, DeadlineExceeded(f"the request was not there after {_MOST_S:.0f} s")),
    ]
    try:
        yield
    except asyncio.CancelledError:
        if not refusals:
            raise
        task.uncancel()
        raise refusals.pop() from None
    finally:
        for timer in timers:
            timer.cancel()
        held.close()
