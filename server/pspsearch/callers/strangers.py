"""How much is written of callers whom nobody knows: a crowd of them must not fill a disk."""

from collections import Counter
from collections.abc import Callable

MINUTE_S = 60.0

LINES_OF_A_HOST = 10
"""In a minute."""

LINES = 100
"""Of all hosts together in a minute: whoever has many addresses gets no more."""


class Strangers:
    """Admits so many lines in a minute and counts what it left out; holds no more hosts than it admits lines."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives seconds."""
        self._clock = clock
        self._began_s = clock()
        self._written: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()
        self._others = 0
        """Left out of hosts that had no line in this minute."""

    def admit(self, host: str) -> bool:
        """Whether there may be a line of that host now."""
        if self._written[host] < LINES_OF_A_HOST and self._written.total() < LINES:
            self._written[host] += 1
            return True
        if self._written[host]:
            self._left_out[host] += 1
        else:
            self._others += 1
        return False

    def is_over(self) -> bool:
        """Whether the minute is, so that `end` may be asked."""
        return self._clock() - self._began_s >= MINUTE_S

    def end(self) -> dict[str, int]:
        """How many were left out since the last time, by host; under an empty name those of hosts without a line."""
        told = {**self._left_out, **({"": self._others} if self._others else {})}
        self._began_s = self._clock()
        self._written.clear()
        self._left_out.clear()
        self._others = 0
        return told
