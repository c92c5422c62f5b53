"""The thread that merges, compacts, saves and probes while searches go on."""

import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from pspsearch.index.candidates.finder import Advance
from pspsearch.index.probes import Probes
from pspsearch.index.segments import Segments
from pspsearch.index.snapshots import Snapshots
from pspsearch.index.view import View

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 300.0
"""The longest pause before failed work is tried again, in seconds."""

LONGEST_WAIT_S = 10.0
"""The same for commits that could not be taken in, because writes are not acknowledged until they are."""

LOOK_S = 30.0
"""How often the thread checks what is due, in seconds."""

RETIRED_S = 60.0
"""How long descriptors of rows that a compaction dropped stay available: longer than a call takes."""

NICENESS = 5
"""Gives the thread a quarter of a busy core.

With much less, a search would wait for the interpreter's lock while its holder waits for the core, and under load
nothing would ever be finished.
"""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits beyond which the thread acts."""

    fresh_bytes: int = 4 << 20
    """The most bytes of fresh descriptors, which every search reads: a third of a millisecond."""
    fresh_share: float = 1 / 128
    """The most fresh rows as a share of the base, because a merge costs about as much as the base is large."""
    dead_rows: int = 4096
    dead_share: float = 0.25
    """The most dead rows as a share of all; both limits must be passed."""
    snapshot_pause_s: float = 180.0
    """Seconds between two snapshots, and before the first one."""

    def is_stale(self, view: View) -> bool:
        """Whether the base should cover more rows."""
        fresh_bytes = view.fresh * 2 * view.table.matrix.dimension
        return fresh_bytes > self.fresh_bytes and view.fresh > self.fresh_share * view.base.rows

    def is_sparse(self, view: View) -> bool:
        """Whether too many rows are dead."""
        dead = view.rows - view.living
        return dead > self.dead_rows and dead > self.dead_share * view.rows


USUAL_BOUNDS = Bounds()


class _Stopped(Exception):
    """Raised to end a build that is no longer wanted."""


@dataclass(eq=False, slots=True)
class _Chore:
    name: str
    is_due: Callable[[], bool]
    do: Callable[[Advance], None]
    failure: str = ""
    """Why the last attempt failed."""
    pause_s: float = FIRST_PAUSE_S
    not_before_s: float = -math.inf
    longest_pause_s: float = LONGEST_PAUSE_S

    def keep_failure(self, reason: str, now_s: float) -> None:
        """Notes a failure; each pause is twice as long as the one before."""
        self.failure = reason
        self.not_before_s = now_s + self.pause_s
        self.pause_s = min(2 * self.pause_s, self.longest_pause_s)

    def forget_failure(self) -> None:
        """Forgets the failure, because the work is done or no longer due."""
        self.failure, self.pause_s, self.not_before_s = "", FIRST_PAUSE_S, -math.inf


class Upkeep:
    """Does what is due, in a thread of lower priority. Failed work is logged, and tried again after a pause."""

    def __init__(
        self,
        segments: Segments,
        snapshots: Snapshots,
        bounds: Bounds,
        probes: Probes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` returns seconds."""
        self._clock = clock
        self._segments = segments
        self._snapshots = snapshots
        self._bounds = bounds
        self._saved_s = self._retired_s = clock()
        self._chores: tuple[_Chore, ...] = (
            _Chore(
                "catching up",
                lambda: bool(segments.delayed),
                lambda _: segments.take_delayed(),
                longest_pause_s=LONGEST_WAIT_S,
            ),
            _Chore("compacting", lambda: bounds.is_sparse(segments.view), self._compact),
            _Chore("merging", lambda: bounds.is_stale(segments.view), segments.merge),
            _Chore("saving", self._is_save_due, self._save),
            _Chore("forgetting", self._is_retired_old, lambda _: segments.forget()),
            _Chore("probing", lambda: probes.is_due(clock()), lambda _: probes.repeat(clock())),
        )
        self._doing = ""
        self._wake = threading.Event()
        self._closing = False
        # A daemon thread, because a program that ends without closing must not hang. The last snapshot then stays as it
        # was.
        self._thread = threading.Thread(target=self._run, name="index-upkeep", daemon=True)

    def start(self) -> None:
        """Starts the thread, which first does what is due."""
        self._wake.set()
        self._thread.start()

    def notice(self) -> None:
        """Wakes the thread if something is due. Call it after every commit, from any thread; it is quick."""
        view = self._segments.view
        if self._segments.delayed or self._bounds.is_stale(view) or self._bounds.is_sparse(view):
            self._wake.set()

    @property
    def words(self) -> str:
        """What is being done, with its progress, and what failed; empty if there is neither."""
        failures = (
            f"{chore.name} failed, and is tried again: {chore.failure}" for chore in self._chores if chore.failure
        )
        return "; ".join(filter(None, (self._doing, *failures)))

    def close(self) -> None:
        """Ends the build under way, saves a snapshot, and returns when the thread has ended."""
        self._closing = True
        self._wake.set()
        self._thread.join()
        self._chores = ()  # they refer to this object, which should be freed without the garbage collector

    def work(self) -> None:
        """Does all that is due until nothing is; runs in the thread, or before it is started."""
        while not self._closing and (chore := self._next()):
            self._try(chore)

    def _run(self) -> None:
        _lower_priority()
        while not self._closing:
            self._wake.wait(self._pause_s())
            self._wake.clear()
            self.work()
        try:
            if not self._snapshots.has(self._segments.view):
                self._snapshots.save(self._segments.view)
        except Exception:
            log.exception("no snapshot could be left; the next start takes longer")

    def _next(self) -> _Chore | None:
        now = self._clock()
        for chore in self._chores:
            if not chore.is_due():
                chore.forget_failure()
            elif chore.not_before_s <= now:
                return chore
        return None

    def _pause_s(self) -> float:
        """Returns the seconds until something may be due even without a commit."""
        now = self._clock()
        return min([LOOK_S, *(max(0.0, chore.not_before_s - now) for chore in self._chores if chore.failure)])

    def _try(self, chore: _Chore) -> None:
        def advance(share: float) -> None:
            if self._closing:
                raise _Stopped
            self._doing = f"{chore.name} {100 * share:.0f} %" if share else chore.name

        try:
            advance(0.0)
            chore.do(advance)
        except _Stopped:
            pass
        except Exception as error:
            log.exception("%s failed, and is tried again in %.0f s", chore.name, chore.pause_s)
            chore.keep_failure(str(error), self._clock())
        else:
            chore.forget_failure()
        finally:
            self._doing = ""

    def _compact(self, advance: Advance) -> None:
        self._segments.compact(self._snapshots.new_matrix(), advance)
        self._retired_s = self._clock()

    def _is_retired_old(self) -> bool:
        return self._segments.retired is not None and self._clock() - self._retired_s >= RETIRED_S

    def _is_save_due(self) -> bool:
        rested = self._clock() - self._saved_s >= self._bounds.snapshot_pause_s
        return rested and not self._snapshots.has_base(self._segments.view)

    def _save(self, _: Advance) -> None:
        self._snapshots.save(self._segments.view)
        self._saved_s = self._clock()


def _lower_priority() -> None:
    """Lowers the priority of the calling thread, which only Linux can do."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
