"""Receives the request of a call, with a bound on how long it takes and how much memory it may hold."""

import asyncio
import contextlib
from collections.abc import Generator
from typing import Any

import grpc.aio

from pspsearch.callers.budget import Account
from pspsearch.errors import DeadlineExceeded, InvalidRequest, Overloaded, PspsearchError

_LATE_S = 0.1
"""After so long a late request may already hold much memory; before that it holds no more than a line can carry."""
_MOST_S = 120.0
"""How long a request may take, whatever its deadline. A caller slower than 350 KB/s must send less at once."""


async def receive(context: "grpc.aio.ServicerContext[Any, Any]", account: Account, most_bytes: int) -> bytes:
    """Returns the one request of a call, unparsed.

    gRPC does not tell how much of a request has arrived, so a late one counts as `most_bytes`. Raises Overloaded if
    there is no room for that, DeadlineExceeded if the request takes too long.
    """
    with _watch(account, most_bytes):
        content = await context.read()
    if content is grpc.aio.EOF:
        raise InvalidRequest("the call has ended before its request")
    return content


@contextlib.contextmanager
def _watch(account: Account, most_bytes: int) -> Generator[None]:
    """Watches over a block that waits for a request."""
    task = asyncio.current_task()
    assert task is not None
    held = contextlib.ExitStack()
    refusals: list[PspsearchError] = []
    loop = asyncio.get_running_loop()

    def look() -> None:
        """Looks again in the loop's next turn, so that a loop that was late first takes a request that has arrived."""
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
        loop.call_later(_MOST_S, refuse, DeadlineExceeded(f"the request had not arrived after {_MOST_S:.0f} s")),
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
