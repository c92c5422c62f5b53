"""Carries changes through even if their caller leaves, so that what answers matches what is on disk."""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
Self = TypeVar("Self", bound="Finisher")


class Finisher:
    """Base of classes with methods that run `to_its_end`. Only tasks of one event loop may use it."""

    def __init__(self) -> None:
        self._finishing: set[asyncio.Task[Any]] = set()

    def finish(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Starts the work in its own task, which `finished` waits for."""
        task = asyncio.create_task(work)
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)
        return task

    async def finished(self) -> None:
        """Waits until all this work is done."""
        while self._finishing:
            await asyncio.wait(self._finishing)


def to_its_end(
    method: Callable[Concatenate[Self, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Self, P], Coroutine[Any, Any, T]]:
    """Makes a method run to its end even if its caller is cancelled."""

    @functools.wraps(method)
    async def finished(self: Self, *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.shield(self.finish(method(self, *args, **kwargs)))

    return finished


async def cancel(task: asyncio.Task[Any] | None) -> None:
    """Cancels the task, if there is one, and waits until it has ended."""
    if task is not None:
        task.cancel()
        await asyncio.wait([task])
