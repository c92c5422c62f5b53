"""Large requests are bounded by the memory, and what they took is given back."""

import asyncio
import threading

import pytest

from pspsearch.callers import budget as budgets
from pspsearch.callers.budget import ALWAYS_BYTES, SMALL_BYTES, Account, Budget, Parked

PATIENCE_S = 10.0
MOST_BYTES = 64 << 20
"""What all callers may have; one caller may have half."""


async def parse(account: Account, size_bytes: int, may_end: asyncio.Event) -> None:
    """Parses a request of a stream, which takes until the event is set."""
    with await account.park(size_bytes):
        await may_end.wait()


@pytest.mark.parametrize(("size_bytes", "held_bytes"), [(SMALL_BYTES, 2 * SMALL_BYTES), (20 << 20, 20 << 20)])
async def test_large_requests_of_streams_are_parsed_one_after_the_other(size_bytes: int, held_bytes: int) -> None:
    """Large ones wait if there is no room for two; small ones are parsed at once."""
    account, may_end = Budget(MOST_BYTES).account("shop"), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(parse(account, size_bytes, may_end))
        for _ in range(10):  # enough turns of the loop for both to begin
            await asyncio.sleep(0)
        held = account.held_bytes
        may_end.set()

    assert (held, account.held_bytes) == (held_bytes, 0)


@pytest.mark.parametrize("size_bytes", [SMALL_BYTES, ALWAYS_BYTES])
async def test_a_usual_request_of_a_stream_needs_no_room(size_bytes: int) -> None:
    """It needs none, whatever the caller's other streams hold."""
    account, may_end = Budget(MOST_BYTES).account("shop"), asyncio.Event()
    account.change(MOST_BYTES)
    may_end.set()

    await asyncio.wait_for(parse(account, size_bytes, may_end), PATIENCE_S)

    assert account.held_bytes == MOST_BYTES


async def test_a_request_beyond_all_room_is_parsed_alone() -> None:
    """Otherwise it would wait for ever."""
    account, may_end = Budget(MOST_BYTES).account("shop"), asyncio.Event()
    may_end.set()

    await parse(account, 2 * MOST_BYTES, may_end)

    assert account.held_bytes == 0


def test_a_parked_request_begins_where_it_would_wait_for_nobody() -> None:
    """If all that the caller has is parked, one goes on, however much it needs; calls under way will end anyway."""
    account = Budget(MOST_BYTES).account("shop")
    first, second = (Parked(account, MOST_BYTES // 4) for _ in range(2))

    assert account.may_begin(MOST_BYTES)
    with first:
        account.change(MOST_BYTES // 4)
    assert not account.may_begin(1)
    account.change(-MOST_BYTES // 4)
    assert account.may_begin(MOST_BYTES)
    assert account.held_bytes == account.parked_bytes == MOST_BYTES // 4
    for _ in range(2):
        with second:
            pass
        assert account.held_bytes == account.parked_bytes == 0


async def test_memory_of_large_requests_goes_back_to_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes back once for all that end together, and not in the event loop."""
    loop, gone, threads = asyncio.get_running_loop(), asyncio.Event(), list[threading.Thread]()

    def give_back() -> None:
        threads.append(threading.current_thread())
        loop.call_soon_threadsafe(gone.set)

    monkeypatch.setattr(budgets, "give_back", give_back)
    monkeypatch.setattr(budgets, "_SOON_S", 0.0)
    account = Budget(4 * MOST_BYTES).account("shop")
    for _ in range(3):
        with account.hold(MOST_BYTES):
            pass

    await gone.wait()

    assert len(threads) == 1
    assert threads[0] is not threading.current_thread()
