"""Bounds what is written about unknown callers: a crowd of them must not fill a disk."""

from collections import Counter
from collections.abc import Callable

MINUTE_S = 60.0

LINES_OF_A_HOST = 10
"""How many lines one host gets at most in a minute."""

LINES = 100
"""How many lines all hosts together get at most in a minute, so that many addresses gain nothing."""


class Strangers:
    """Admits a bounded number of lines a minute and counts the rest; holds no more hosts than it admits lines."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` returns seconds."""
        self._clock = clock
        self._began_s = clock()
        self._written: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()
        self._others = 0
        """How many lines were left out about hosts that had no line in this minute."""

    def admit(self, host: str) -> bool:
        """Whether a line about that host may be written now; if not, it is counted."""
        if self._written[host] < LINES_OF_A_HOST and self._written.total() < LINES:
            self._written[host] += 1
            return True
        if self._written[host]:
            self._left_out[host] += 1
        else:
            self._others += 1
        return False

    def is_over(self) -> bool:
        """Whether the minute is over, so that `end` may be called."""
        return self._clock() - self._began_s >= MINUTE_S

    def end(self) -> dict[str, int]:
        """Ends the minute and returns how many lines were left out in it, by host.

        All hosts that had no line share the empty name.
        """
        told = {**self._left_out, **({"": self._others} if self._others else {})}
        self._began_s = self._clock()
        self._written.clear()
        self._left_out.clear()
        self._others = 0
        return told
