"""Ends work in order when the process is asked to stop."""

import asyncio
import queue
import signal
import threading
from collections.abc import Coroutine, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

Result = TypeVar("Result")
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class _End:
    reason: BaseException | None


def run_until_signal(main: Coroutine[Any, Any, Result]) -> Result | None:
    """Runs `main` and returns its result. SIGINT and SIGTERM cancel it, so its contexts close; then it returns None."""

    async def run() -> Result | None:
        task = asyncio.ensure_future(main)
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        try:
            return await task
        except asyncio.CancelledError:
            return None

    return asyncio.run(run())


def until_interrupted(items: Iterable[Item]) -> Iterator[Item]:
    """Yields the items, which a thread takes from the iterable. On Ctrl-C, KeyboardInterrupt is raised here only.

    Python would raise it wherever the main thread happens to be. There it can be lost in a callback, or leave one of
    gRPC's locks held.
    """
    taken: queue.SimpleQueue[Item | _End] = queue.SimpleQueue()

    def take() -> None:
        reason: BaseException | None = None
        try:
            for item in items:
                taken.put(item)
        except BaseException as error:
            reason = error
        taken.put(_End(reason))

    before = signal.signal(signal.SIGINT, lambda _number, _frame: taken.put(_End(KeyboardInterrupt())))
    try:
        threading.Thread(target=take, name="items", daemon=True).start()
        while not isinstance(item := taken.get(), _End):
            yield item
    finally:
        signal.signal(signal.SIGINT, before)
    if item.reason is not None:
        raise item.reason
