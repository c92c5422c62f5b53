"""Decides when a failed call is tried again.

gRPC's own retries (`retryPolicy` in a channel's service config) do not suffice. They make at most five attempts, do not
repeat a message that is longer than a buffer, and cannot continue an ingest after its last acknowledgement.
"""

import random
import threading
import time
from dataclasses import dataclass

_EARNED_BY_A_SUCCESS = 0.1


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a client retries while the server is UNAVAILABLE. An ingest also retries after RESOURCE_EXHAUSTED."""

    attempts: int = 5
    """The most attempts of one call, the first included. An ingest counts afresh after each acknowledged item."""
    first_delay_s: float = 0.1
    """The upper bound of the first pause. The bound doubles each time, and each pause is a random part of it."""
    max_delay_s: float = 5.0
    budget: int = 10
    """How many retries all calls of a client may make in a row. Ten answers earn one back."""


DEFAULT_RETRIES = Retries()


class RetryBudget:
    """Limits a client's retries, so that clients do not multiply the load of a failing server. It is thread-safe."""

    def __init__(self, size: int) -> None:
        self._size = float(size)
        self._left = self._size
        self._lock = threading.Lock()

    def spend(self) -> bool:
        """Takes one retry from the budget; False if none is left."""
        with self._lock:
            if self._left < 1:
                return False
            self._left -= 1
            return True

    def earn(self) -> None:
        """Must be called after each answer: ten earn one retry."""
        with self._lock:
            self._left = min(self._size, self._left + _EARNED_BY_A_SUCCESS)


class Attempts:
    """Counts and times the attempts of one call."""

    def __init__(self, retries: Retries, budget: RetryBudget, timeout_s: float | None, *, repeatable: bool) -> None:
        self._retries = retries
        self._budget = budget
        self._deadline = None if timeout_s is None else time.monotonic() + timeout_s
        self._repeatable = repeatable
        self._failed = 0

    def remaining_s(self) -> float | None:
        """The time left for this and all further attempts; None if there is no limit."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def succeed(self) -> None:
        """Records an answer, after which the count of attempts starts afresh."""
        self._failed = 0
        self._budget.earn()

    def pause_s(self) -> float | None:
        """Records a failed attempt, and returns how long to wait before the next; None to give up."""
        self._failed += 1
        if not self._repeatable or self._failed >= self._retries.attempts:
            return None
        longest = min(self._retries.max_delay_s, self._retries.first_delay_s * 2 ** (self._failed - 1))
        pause_s = random.uniform(0, longest)  # noqa: S311 - it spreads load and guards no secret
        remaining_s = self.remaining_s()
        if remaining_s is not None and pause_s >= remaining_s:
            return None
        return pause_s if self._budget.spend() else None
