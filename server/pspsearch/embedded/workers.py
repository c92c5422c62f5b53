"""Threads that describe images, one for each core. Each takes the next image that waits, from bytes to descriptor."""

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
"""How many images may wait; more are refused at once, as by a Triton whose queue is full."""


@dataclass(eq=False, slots=True)
class _Job:
    network: Network
    prepare: Prepare | None
    """Holds the image; None once a thread has begun with it, or the caller has left."""
    cells: bool
    answer: "asyncio.Future[Answer]"
    loop: asyncio.AbstractEventLoop


class Workers:
    """The threads, which all networks of a server share: so two versions together take no more cores than there are."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._turn = threading.Lock()
        self._waiting = self._busy = 0
        """How many images wait, and how many are under way."""
        self._threads = [
            threading.Thread(target=self._work, name=f"describe-{number}", daemon=True)
            for number in range(len(os.sched_getaffinity(0)))
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, network: Network, prepare: Prepare, *, cells: bool) -> "asyncio.Future[Answer]":
        """Queues one image and returns its answer, which is to come. Cancelling that drops an image that still waits.

        Raises Overloaded if too many images wait.
        """
        with self._turn:
            if self._waiting >= _MOST_WAITING:
                raise Overloaded(f"the model's queue is full: {_MOST_WAITING} images wait")
            self._waiting += 1
        loop = asyncio.get_running_loop()
        job = _Job(network, prepare, cells, loop.create_future(), loop)
        job.answer.add_done_callback(lambda _: self._take(job))  # the caller left: the image goes, too
        self._jobs.put(job)
        return job.answer

    def close(self) -> None:
        """Ends the threads after the images that were submitted."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            prepare = self._take(job)
            if prepare is not None:
                self._do(job, prepare)
            del job, prepare  # they hold an image while this thread waits

    def _take(self, job: _Job) -> Prepare | None:
        """Takes the image out of the job, for the first who asks."""
        with self._turn:
            prepare, job.prepare = job.prepare, None
            if prepare is not None:
                self._waiting -= 1
        return prepare

    def _do(self, job: _Job, prepare: Prepare) -> None:
        with self._turn:
            self._busy += 1
            is_alone = self._busy == 1 and not self._waiting
        try:
            answer = job.network.describe(prepare, cells=job.cells, on_all_cores=is_alone)
        except Exception as error:  # whatever it is, its caller hears of it, and this thread goes on
            failure = bare(error)
            _tell(job, lambda: job.answer.set_exception(failure))
        else:
            _tell(job, lambda: job.answer.set_result(answer))
        finally:
            with self._turn:
                self._busy -= 1


def _tell(job: _Job, act: Callable[[], None]) -> None:
    """Calls `act` in the caller's event loop, if the caller still waits."""

    def tell() -> None:
        if not job.answer.done():
            act()

    with contextlib.suppress(RuntimeError):  # the loop has ended, and with it whoever waited
        job.loop.call_soon_threadsafe(tell)
