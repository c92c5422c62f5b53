"""Calls that a client refuses by itself while the server refuses most of them.

A refusal costs a server a good part of what it could answer with: what is sure to be refused is better not sent.
"""

import contextlib
import math
import random
import threading
import time
from collections.abc import Callable, Generator

from pspsearch.errors import Overloaded

_SENT_FOR_EACH_ANSWER = 2.0
"""So the server can be asked for more at any time, and is heard when it has recovered."""
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
        self._calls = 0.0
        self._taken = 0.0
        """By the server, whatever became of them."""

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
                self._taken += not refused

    def _enter(self) -> None:
        with self._lock:
            now = self._clock()
            kept, self._since = math.exp((self._since - now) / _MEMORY_S), now
            self._taken *= kept
            self._calls = kept * self._calls + 1
            too_many = self._calls - _FREE - _SENT_FOR_EACH_ANSWER * self._taken
            refused = too_many > self._by_chance() * self._calls
        if refused:
            raise Overloaded("the server refuses most calls, and this one was not sent")
