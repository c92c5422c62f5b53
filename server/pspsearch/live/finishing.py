"""Changes that are carried through although their caller leaves: what is on disk is what answers."""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
Self = TypeVar("Self", bound="Finisher")


class Finisher:
    """What has methods that go `to_its_end`; for the tasks of one event loop."""

    def __init__(self) -> None:
        self._finishing: set[asyncio.Task[Any]] = set()

    def finish(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A task of its own."""
        task = asyncio.create_task(work)
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)
        return task

    async def finished(self) -> None:
        """When all of them are done."""
        while self._finishing:
            await asyncio.wait(self._finishing)


def to_its_end(
    method: Callable[Concatenate[Self, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Self, P], Coroutine[Any, Any, T]]:
    """Whatever becomes of its caller."""

    @functools.wraps(method)
    async def finished(self: Self, *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.shield(self.finish(method(self, *args, **kwargs)))

    return finished


async def cancel(task: asyncio.Task[Any] | None) -> None:
    """And waits until it has ended."""
    if task is not None:
        task.cancel()
        await asyncio.wait([task])
