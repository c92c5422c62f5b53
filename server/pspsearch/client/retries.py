"""When a call that failed is made again.

gRPC's own retries (`retryPolicy` in a channel's service config) are no substitute. They make at most five attempts, do
not repeat a message that is longer than a buffer, and cannot go on with an ingest where its acknowledgements ended.
"""

import random
import threading
import time
from dataclasses import dataclass

_EARNED_BY_A_SUCCESS = 0.1


@dataclass(frozen=True, slots=True)
class Retries:
    """How hard a client tries while the server is UNAVAILABLE; nothing else is tried again."""

    attempts: int = 5
    """Of one call, the first included; an ingest counts anew after each item that is in."""
    first_delay_s: float = 0.1
    """The longest first pause; it doubles, and each pause is a random part of it."""
    max_delay_s: float = 5.0
    budget: int = 10
    """Retries that all calls of a client may make in a row; ten answers earn one back."""


DEFAULT_RETRIES = Retries()


class RetryBudget:
    """What keeps the clients of a failing server from multiplying its load; for any thread."""

    def __init__(self, size: int) -> None:
        self._size = float(size)
        self._left = self._size
        self._lock = threading.Lock()

    def spend(self) -> bool:
        """Takes one retry, where there is one."""
        with self._lock:
            if self._left < 1:
                return False
            self._left -= 1
            return True

    def earn(self) -> None:
        """After each answer."""
        with self._lock:
            self._left = min(self._size, self._left + _EARNED_BY_A_SUCCESS)


class Attempts:
    """The attempts of one call."""

    def __init__(self, retries: Retries, budget: RetryBudget, timeout_s: float | None, *, repeatable: bool) -> None:
        self._retries = retries
        self._budget = budget
        self._deadline = None if timeout_s is None else time.monotonic() + timeout_s
        self._repeatable = repeatable
        self._failed = 0

    def remaining_s(self) -> float | None:
        """For this attempt and all that follow; None for ever."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def succeed(self) -> None:
        """An answer came: the count begins anew."""
        self._failed = 0
        self._budget.earn()

    def pause_s(self) -> float | None:
        """How long to wait before the next attempt, after one that found the server unavailable; None to give up."""
        self._failed += 1
        if not self._repeatable or self._failed >= self._retries.attempts:
            return None
        longest = min(self._retries.max_delay_s, self._retries.first_delay_s * 2 ** (self._failed - 1))
        pause_s = random.uniform(0, longest)  # noqa: S311 - spreads load, guards no secret
        remaining_s = self.remaining_s()
        if remaining_s is not None and pause_s >= remaining_s:
            return None
        return pause_s if self._budget.spend() else None
