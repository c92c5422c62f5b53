"""Work that several callers wait for, and what becomes of it when they leave."""

import asyncio
import threading
import weakref

import pytest

from pspsearch.errors import Overloaded
from pspsearch.shared_work import SharedWork

PATIENCE_S = 10.0


class Work:
    """Work that goes on until a test ends it."""

    def __init__(self) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.times = 0

    def __call__(self) -> str:
        """Returns how often the work has been done by now."""
        self.times += 1
        self.begun.set()
        assert self.may_end.wait(PATIENCE_S)
        return f"done {self.times}"


async def leave(*asked: "asyncio.Task[str]") -> None:
    """Makes a caller leave."""
    for one in asked:
        one.cancel()
    await asyncio.wait(asked)


async def test_nothing_is_kept_of_work_that_nobody_waits_for() -> None:
    """It is dropped even while earlier work goes on, and makes room for other work at once."""
    shared, first, second = SharedWork("work", 2, "pieces"), Work(), Work()
    beginning = asyncio.create_task(shared.run("first", first))
    await asyncio.to_thread(first.begun.wait, PATIENCE_S)
    leaving = asyncio.create_task(shared.run("second", second))
    await asyncio.sleep(0)
    watched = weakref.ref(second)
    del second

    await leave(leaving)
    del leaving

    assert watched() is None
    third = asyncio.create_task(shared.run("third", lambda: "done"))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="too many pieces"):
        await shared.run("fourth", lambda: "done")
    first.may_end.set()
    assert (await beginning, await third) == ("done 1", "done")
    await shared.close()


async def test_who_asks_again_waits_for_what_was_begun() -> None:
    """Otherwise an impatient caller would keep the thread busy for ever and never get an answer."""
    shared, work = SharedWork("work", 2, "pieces"), Work()
    asked = asyncio.create_task(shared.run("key", work))
    await asyncio.to_thread(work.begun.wait, PATIENCE_S)
    await leave(asked)

    again = asyncio.create_task(shared.run("key", work))
    await asyncio.sleep(0)
    work.may_end.set()

    assert await again == "done 1"
    assert await shared.run("key", work) == "done 2"
    await shared.close()
