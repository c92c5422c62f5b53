"""What Ctrl-C interrupts."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from pspsearch.cli.interrupt import until_interrupted


def test_all_items_come_in_order() -> None:
    """They come as from the iterable itself."""
    assert list(until_interrupted(range(1000))) == list(range(1000))


def test_what_ends_the_items_is_raised() -> None:
    """It is raised after the items before it."""

    def two() -> Iterator[int]:
        yield from (1, 2)
        raise ValueError("no more")

    items = until_interrupted(two())

    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(ValueError, match="no more"):
        next(items)


def test_interrupt_comes_after_what_was_there_and_waits_for_nothing() -> None:
    """The next item never comes. Afterwards Ctrl-C works as before."""
    before, never = signal.getsignal(signal.SIGINT), threading.Event()

    def stalled() -> Iterator[int]:
        yield 1
        os.kill(os.getpid(), signal.SIGINT)
        never.wait()

    items = until_interrupted(stalled())

    assert next(items) == 1
    with pytest.raises(KeyboardInterrupt):
        next(items)
    assert signal.getsignal(signal.SIGINT) == before
    never.set()
