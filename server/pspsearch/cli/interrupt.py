"""Running a coroutine until it ends or the process is asked to."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


def run_until_signal(main: Coroutine[Any, Any, Result]) -> Result | None:
    """Cancels `main` on SIGINT and SIGTERM, so that its contexts close; None where that happened."""

    async def run() -> Result | None:
        task = asyncio.ensure_future(main)
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        try:
            return await task
        except asyncio.CancelledError:
            return None

    return asyncio.run(run())
