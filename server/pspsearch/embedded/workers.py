"""Threads that describe, one for each core: first come, first served, each image by one of them from end to end."""

import asyncio
import contextlib
import os
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

from pspsearch.embedded.network import Answer, Network, Prepare
from pspsearch.errors import Overloaded, bare

_MOST_WAITING = 256
"""Images; more are refused at once, as in a Triton's queue."""


@dataclass(frozen=True, slots=True)
class _Job:
    network: Network
    prepare: Prepare
    cells: bool
    answer: "asyncio.Future[Answer]"
    loop: asyncio.AbstractEventLoop


class Workers:
    """Shared by all networks of a server, so that versions beside one another do not take more cores than there are."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._busy = 0
        self._turn = threading.Lock()
        self._threads = [
            threading.Thread(target=self._work, name=f"describe-{number}", daemon=True)
            for number in range(len(os.sched_getaffinity(0)))
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, network: Network, prepare: Prepare, *, cells: bool) -> "asyncio.Future[Answer]":
        """What becomes of one image; cancelling it takes an image back that no thread has begun with.

        Overloaded if too many wait.
        """
        if self._jobs.qsize() >= _MOST_WAITING:
            raise Overloaded(f"the model's queue is full: {_MOST_WAITING} images wait")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        self._jobs.put(_Job(network, prepare, cells, answer, loop))
        return answer

    def close(self) -> None:
        """Waits for the images that are under way."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if not job.answer.cancelled():
                self._do(job)
            del job  # it holds an image while this thread waits

    def _do(self, job: _Job) -> None:
        with self._turn:
            self._busy += 1
            is_alone = self._busy == 1 and self._jobs.empty()
        try:
            answer = job.network.describe(job.prepare, cells=job.cells, on_all_cores=is_alone)
        except Exception as error:  # whatever it is, its caller hears of it, and this thread goes on
            failure = bare(error)
            _tell(job, lambda: job.answer.set_exception(failure))
        else:
            _tell(job, lambda: job.answer.set_result(answer))
        finally:
            with self._turn:
                self._busy -= 1


def _tell(job: _Job, act: Callable[[], None]) -> None:
    """In the loop of the caller, if that still waits."""

    def tell() -> None:
        if not job.answer.done():
            act()

    with contextlib.suppress(RuntimeError):  # the loop has ended, and with it whoever waited
        job.loop.call_soon_threadsafe(tell)
