"""Processor time of this process and of all that it has started: the currency in which a search is paid."""

import contextlib
import time
from collections.abc import Generator
from dataclasses import dataclass

import psutil


@dataclass(slots=True)
class Spent:
    """What a block took; known when it has ended."""

    core_s: float = 0.0
    """Seconds of one core, of all processes together."""
    seconds: float = 0.0

    def core_ms_each(self, calls: float) -> float:
        """Milliseconds of one core for each of so many calls."""
        return 1000 * self.core_s / calls


@contextlib.contextmanager
def spending() -> Generator[Spent]:
    """Measures the block. No process of the family may end inside it: its time would be lost."""
    spent, began, before = Spent(), time.perf_counter(), _family_s()
    yield spent
    spent.core_s, spent.seconds = _family_s() - before, time.perf_counter() - began


def _family_s() -> float:
    me = psutil.Process()
    total = 0.0
    for process in (me, *me.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total
