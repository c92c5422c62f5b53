"""A new generation that takes part in live searches before it is promoted."""

import asyncio
import contextlib
import hashlib
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass

import numpy as np

from pspsearch.call import Call
from pspsearch.errors import PspsearchError, RetryLater
from pspsearch.live.latencies import Latencies
from pspsearch.live.live import Live
from pspsearch.query import BatchAnswer, Hit

log = logging.getLogger(__name__)

_AT_ONCE = 4
"""Searches that are mirrored at the same time; more are left out."""
_CALL_S = 20.0
"""For one of them."""
_LAST = 1000
"""So many of them are in the means."""

Search = Callable[[Live, Call], Awaitable[BatchAnswer]]
"""Asks a generation what another one was asked."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What has come of it."""

    answered: int = 0
    """Calls that the new generation answered."""
    passed_on: int = 0
    """Calls that it could not answer, so that the active one did."""
    mirrored: int = 0
    """Calls that both answered, the new one only for comparison."""
    failed: int = 0
    """Of those that it was to answer for comparison."""
    overlap: float = 0.0
    """The share of the active one's hits that the new one has, too, in the mean of the last mirrored queries."""
    ms: float = 0.0
    """The median time of the last mirrored calls."""
    active_ms: float = 0.0
    """Of the same calls, as they were answered."""


class Trial:
    """Lets a generation answer some callers, and answer some calls beside the active one; for one event loop."""

    def __init__(self, candidate: Live, canary: float, shadow: float, latencies: Latencies) -> None:
        """Of all callers the share `canary` is answered by the candidate, and of other calls `shadow` is mirrored."""
        self.candidate = candidate
        self._canary = canary
        self._shadow = shadow
        self._latencies = latencies
        self._due = 0.0
        self._mirroring: set[asyncio.Task[None]] = set()
        self._answered = self._passed_on = self._mirrored = self._failed = 0
        self._overlaps: deque[float] = deque(maxlen=_LAST)
        self._times: deque[tuple[float, float]] = deque(maxlen=_LAST)

    @property
    def tried(self) -> Tried:
        """Until now."""
        counts = self._answered, self._passed_on, self._mirrored, self._failed
        if not self._times:
            return Tried(*counts)
        overlap = float(np.mean(self._overlaps)) if self._overlaps else 0.0
        ms, active_ms = np.median(self._times, axis=0) * 1000
        return Tried(*counts, overlap, float(ms), float(active_ms))

    def takes(self, call: Call) -> bool:
        """Whether the candidate answers it: for a caller always the same, and still so when the share grows."""
        generation = self.candidate.generation
        if call.version not in (None, generation.version):
            return False
        digest = hashlib.sha256(f"{generation.key} {call.caller}".encode()).digest()
        return int.from_bytes(digest[:8]) < self._canary * 2**64

    @contextlib.contextmanager
    def answering(self) -> Generator[Live]:
        """The candidate, to answer a call with. The block ends early where it cannot, for reasons that do not pass."""
        with self.candidate.in_use():
            try:
                yield self.candidate
                self._answered += 1
            except RetryLater:
                raise
            except PspsearchError as error:
                self._passed_on += 1
                log.info("%s passes a call on: %s", self.candidate.describer.version, error)

    def mirror(self, answer: BatchAnswer, seconds: float, search: Search) -> None:
        """Compares the active generation's answer, which took so long, with the candidate's; now and then."""
        hits = [one for one in answer.hits if isinstance(one, list)]
        if answer.generation == self.candidate.generation or len(hits) < len(answer.hits):
            return
        self._due += self._shadow
        if self._due < 1:
            return
        self._due -= 1
        if len(self._mirroring) < _AT_ONCE:
            task = asyncio.create_task(self._mirror(hits, seconds, search))
            self._mirroring.add(task)
            task.add_done_callback(self._mirroring.discard)

    def end(self) -> None:
        """Nothing is mirrored any more."""
        for task in self._mirroring:
            task.cancel()

    async def _mirror(self, hits: Sequence[list[Hit]], seconds: float, search: Search) -> None:
        started = time.perf_counter()
        try:
            with self.candidate.in_use(), self._latencies.company():
                answer = await search(self.candidate, Call(_CALL_S))
        except PspsearchError as error:
            self._failed += 1
            log.info("%s cannot answer a mirrored call: %s", self.candidate.describer.version, error)
            return
        self._mirrored += 1
        self._times.append((time.perf_counter() - started, seconds))
        for old, new in zip(hits, answer.hits, strict=True):
            ids, others = ({hit.id for hit in one} for one in (old, new) if isinstance(one, list))
            if ids:
                self._overlaps.append(len(ids & others) / len(ids))
