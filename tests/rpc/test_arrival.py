"""How much memory a request counts for before it has arrived."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from pspsearch.callers.budget import Budget
from pspsearch.errors import DeadlineExceeded, Overloaded
from pspsearch.rpc import arrival
from pspsearch.rpc.arrival import receive

LARGEST_BYTES = 1 << 20


class Sending:
    """A caller whose request arrives when the test says so."""

    def __init__(self) -> None:
        self.request = asyncio.get_running_loop().create_future()
        self.context: Any = SimpleNamespace(read=lambda: self.request)


async def test_late_request_counts_as_the_largest(monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts so until it has arrived."""
    monkeypatch.setattr(arrival, "_LATE_S", 0.0)
    sending, budget = Sending(), Budget(4 * LARGEST_BYTES)
    receiving = asyncio.create_task(receive(sending.context, budget.account("shop"), LARGEST_BYTES))
    while not budget.held_bytes:
        await asyncio.sleep(0)
    assert budget.held_bytes == LARGEST_BYTES

    sending.request.set_result(b"request")

    assert await receiving == b"request"
    assert budget.held_bytes == 0


async def test_late_request_without_room_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Afterwards no bytes are held for it."""
    monkeypatch.setattr(arrival, "_LATE_S", 0.0)
    budget = Budget(LARGEST_BYTES)

    with pytest.raises(Overloaded, match="no room for 1,048,576 bytes of shop"):
        await receive(Sending().context, budget.account("shop"), LARGEST_BYTES)

    assert budget.held_bytes == 0


async def test_request_that_is_there_is_not_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one turn the loop finds that the request has arrived and that its time is over."""
    monkeypatch.setattr(arrival, "_LATE_S", 0.0)
    sending = Sending()
    receiving = asyncio.create_task(receive(sending.context, Budget(0).account("shop"), LARGEST_BYTES))
    await asyncio.sleep(0)  # receive() waits now
    asyncio.get_running_loop().call_soon(sending.request.set_result, b"request")

    assert await receiving == b"request"


async def test_request_that_never_comes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """This is so however much room there is."""
    monkeypatch.setattr(arrival, "_MOST_S", 0.0)
    budget = Budget(4 * LARGEST_BYTES)

    with pytest.raises(DeadlineExceeded, match="the request had not arrived after 0 s"):
        await receive(Sending().context, budget.account("shop"), LARGEST_BYTES)

    assert budget.held_bytes == 0
