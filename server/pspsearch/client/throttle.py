"""Refuses calls in the client while the server refuses many of them.

A refusal costs the server a tenth of an answer, so a call that would surely be refused is better not sent.
"""

import contextlib
import math
import random
import threading
import time
from collections.abc import Callable, Generator

from pspsearch.errors import Overloaded

_SENT_FOR_EACH_ANSWER = 1.3
"""How many calls are sent for each one answered: over 1, to find out when the server can do more."""
_FREE = 50.0
"""How many calls may be sent beyond that, so that an occasional caller is never refused here."""
_MEMORY_S = 5.0
"""The age at which a call counts only a third."""


class Throttle:
    """The throttle of one client. It is thread-safe."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, by_chance: Callable[[], float] = random.random
    ) -> None:
        self._clock = clock
        self._by_chance = by_chance
        self._lock = threading.Lock()
        self._since = clock()
        self._ended = 0.0
        """How many calls have ended, including those not sent."""
        self._taken = 0.0
        """How many of them the server did not refuse."""

    @contextlib.contextmanager
    def call(self) -> Generator[None]:
        """Counts the block as one call. Raises Overloaded instead if the call should not be sent."""
        self._enter()
        refused = False
        try:
            yield
        except Overloaded:
            refused = True
            raise
        finally:
            with self._lock:
                self._ended += 1
                self._taken += not refused

    def _enter(self) -> None:
        with self._lock:
            now = self._clock()
            kept, self._since = math.exp((self._since - now) / _MEMORY_S), now
            self._ended *= kept
            self._taken *= kept
            too_many = self._ended - _FREE - _SENT_FOR_EACH_ANSWER * self._taken
            refused = too_many > self._by_chance() * self._ended
            self._ended += refused
        if refused:
            raise Overloaded("the server refuses many calls, and this one was not sent")
