"""Calls that a client refuses by itself while the server refuses many of them.

A refusal costs a server a tenth of an answer: what is sure to be refused is better not sent.
"""

import contextlib
import math
import random
import threading
import time
from collections.abc import Callable, Generator

from pspsearch.errors import Overloaded

_SENT_FOR_EACH_ANSWER = 1.3
"""So that it is seen when the server can do more."""
_FREE = 50.0
"""Calls beyond that: who calls now and then is never refused here."""
_MEMORY_S = 5.0
"""After which a call counts a third."""


class Throttle:
    """One client's; for any thread."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, by_chance: Callable[[], float] = random.random
    ) -> None:
        self._clock = clock
        self._by_chance = by_chance
        self._lock = threading.Lock()
        self._since = clock()
        self._ended = 0.0
        """Calls, those that were not sent among them."""
        self._taken = 0.0
        """Those of them that the server worked on, whatever became of them."""

    @contextlib.contextmanager
    def call(self) -> Generator[None]:
        """The block is one call; Overloaded in its place where it is not to be sent."""
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
