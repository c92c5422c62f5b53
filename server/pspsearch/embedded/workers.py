"""Threads that describe images, from bytes to descriptors. What is urgent comes first."""

import asyncio
import contextlib
import itertools
import math
import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from pspsearch.domain import Urgency
from pspsearch.embedded.network import Answer, Network, Prepare
from pspsearch.errors import Overloaded, bare

_PER_CORE = 2
"""While the network computes for one thread, another decodes, so that the network need not wait for an image."""

_MOST_WAITING = 256
"""The most images that may wait of the same or greater urgency; more are refused, as by a Triton whose queue is full.

So a large import never has searches refused.
"""

_LATER_S = 1.0
"""An image of a write counts as if it had come so much later, and one of a rollout twice that.

So searches pass them, and yet neither waits for ever.
"""

_CALM_S = 0.2
"""For so long no two images may have been there at once before a lone one takes all cores.

That answers it sooner, but takes more processor time than one core would: too much on a server that is half busy.
"""


@dataclass(eq=False, slots=True)
class _Job:
    network: Network
    prepare: Prepare | None
    """Holds the image; None once a thread has begun with it, or the caller has left."""
    cells: bool
    urgency: Urgency
    answer: "asyncio.Future[Answer]"
    loop: asyncio.AbstractEventLoop


class Workers:
    """The threads, which all networks of a server share: so two versions together take no more cores than there are."""

    def __init__(self) -> None:
        self._jobs: queue.PriorityQueue[tuple[float, int, _Job | None]] = queue.PriorityQueue()
        """By the time at which each counts as having come, and then in the order in which they did."""
        self._numbers = itertools.count()
        self._turn = threading.Lock()
        self._waiting = [0] * len(Urgency)
        """How many images wait, by urgency."""
        self._busy = 0
        """How many are under way."""
        self._crowded_s = 0.0
        """When two images were last there at once."""
        self._threads = [
            threading.Thread(target=self._work, name=f"describe-{number}", daemon=True)
            for number in range(_PER_CORE * len(os.sched_getaffinity(0)))
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, network: Network, prepare: Prepare, *, cells: bool, urgency: Urgency) -> "asyncio.Future[Answer]":
        """Queues one image and returns its answer, which is to come. Cancelling that drops an image that still waits.

        Raises Overloaded if too many images wait.
        """
        with self._turn:
            if sum(self._waiting[: urgency + 1]) >= _MOST_WAITING:
                raise Overloaded(f"the model's queue is full: {_MOST_WAITING} images wait")
            if self._busy or any(self._waiting):
                self._crowded_s = time.monotonic()
            self._waiting[urgency] += 1
        loop = asyncio.get_running_loop()
        job = _Job(network, prepare, cells, urgency, loop.create_future(), loop)
        job.answer.add_done_callback(lambda _: self._take(job))  # the caller left: the image goes, too
        self._jobs.put((time.monotonic() + _LATER_S * urgency, next(self._numbers), job))
        return job.answer

    def close(self) -> None:
        """Ends the threads after the images that were submitted."""
        for _ in self._threads:
            self._jobs.put((math.inf, next(self._numbers), None))
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()[2]) is not None:
            prepare = self._take(job, begins=True)
            if prepare is not None:
                is_calm = time.monotonic() - self._crowded_s > _CALM_S
                tell = _describe(job, prepare, on_all_cores=is_calm and job.urgency is not Urgency.ROLLOUT)
                with self._turn:
                    self._busy -= 1  # before the caller hears, who may come with the next image at once
                _tell(job, tell)
                del tell
            del job, prepare  # they hold an image while this thread waits

    def _take(self, job: _Job, *, begins: bool = False) -> Prepare | None:
        """Takes the image out of the job, for the first who asks: a thread that begins with it, or nobody any more."""
        with self._turn:
            prepare, job.prepare = job.prepare, None
            if prepare is not None:
                self._waiting[job.urgency] -= 1
                self._busy += begins
        return prepare


def _describe(job: _Job, prepare: Prepare, *, on_all_cores: bool) -> Callable[[], None]:
    """Returns what tells the caller the answer, or the error."""
    try:
        answer = job.network.describe(prepare, cells=job.cells, on_all_cores=on_all_cores)
    except Exception as error:  # whatever it is, its caller hears of it, and this thread goes on
        failure = bare(error)
        return lambda: job.answer.set_exception(failure)
    return lambda: job.answer.set_result(answer)


def _tell(job: _Job, act: Callable[[], None]) -> None:
    """Calls `act` in the caller's event loop, if the caller still waits."""

    def tell() -> None:
        if not job.answer.done():
            act()

    with contextlib.suppress(RuntimeError):  # the loop has ended, and with it whoever waited
        job.loop.call_soon_threadsafe(tell)
