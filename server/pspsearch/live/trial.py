"""Lets a new generation take part in live searches before it is promoted."""

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
"""The most searches mirrored at the same time; more are left out."""
_CALL_S = 20.0
"""The time limit of one mirrored search."""
_LAST = 1000
"""How many of the latest mirrored searches the figures cover."""

Search = Callable[[Live, Call], Awaitable[BatchAnswer]]
"""Asks a generation what another one was asked."""


@dataclass(frozen=True, slots=True)
class Tried:
    """The figures of a trial."""

    answered: int = 0
    """Calls that the new generation answered."""
    passed_on: int = 0
    """Calls that it could not answer, so that the active generation did."""
    mirrored: int = 0
    """Calls that both answered, the new one only for comparison."""
    failed: int = 0
    """Mirrored calls that the new generation could not answer."""
    overlap: float = 0.0
    """The mean share of the active generation's hits that the new one also has, over the latest mirrored queries."""
    ms: float = 0.0
    """The new generation's median time for the latest mirrored calls, in milliseconds."""
    active_ms: float = 0.0
    """The active generation's median time for the same calls, in milliseconds."""


class Trial:
    """Lets a generation answer some callers, and mirrors some calls to it. Only tasks of one event loop may use it."""

    def __init__(self, candidate: Live, canary: float, shadow: float, latencies: Latencies) -> None:
        """The candidate answers the share `canary` of all callers.

        The share `shadow` of the other calls is mirrored.
        """
        self.candidate = candidate
        self._canary = canary
        self._shadow = shadow
        self._latencies = latencies
        self._due = 0.0
        self._has_ended = False
        self._mirroring: set[asyncio.Task[None]] = set()
        self._answered = self._passed_on = self._mirrored = self._failed = 0
        self._overlaps: deque[float] = deque(maxlen=_LAST)
        self._times: deque[tuple[float, float]] = deque(maxlen=_LAST)

    @property
    def tried(self) -> Tried:
        """The figures until now."""
        counts = self._answered, self._passed_on, self._mirrored, self._failed
        if not self._times:
            return Tried(*counts)
        overlap = float(np.mean(self._overlaps)) if self._overlaps else 0.0
        ms, active_ms = np.median(self._times, axis=0) * 1000
        return Tried(*counts, overlap, float(ms), float(active_ms))

    def takes(self, call: Call) -> bool:
        """Whether the candidate answers this call.

        The answer is always the same for one caller, and a caller who is in stays in when the share grows.
        """
        generation = self.candidate.generation
        if call.version not in (None, generation.version):
            return False
        digest = hashlib.sha256(f"{generation.key} {call.caller}".encode()).digest()
        return int.from_bytes(digest[:8]) < self._canary * 2**64

    @contextlib.contextmanager
    def answering(self) -> Generator[Live]:
        """Yields the candidate to answer a call with.

        If it fails for a reason that will not pass, the error is swallowed and the block ends early.
        """
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
        """Compares the active generation's answer, which took `seconds`, with the candidate's, if a call is due."""
        hits = [one for one in answer.hits if isinstance(one, list)]
        if self._has_ended or answer.generation == self.candidate.generation or len(hits) < len(answer.hits):
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
        """Stops the mirrored searches, and begins no more."""
        self._has_ended = True
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
