"""The queue that foretells a tail, against what is known of such queues."""

import math

import pytest

from tests.bench.queueing import p99_ms, waits_ms


@pytest.mark.parametrize("used", [0.3, 0.6, 0.8])
def test_one_core_makes_searches_wait_as_long_as_the_formula_says(used: float) -> None:
    """The mean wait before one server of constant time, by Pollaczek and Khinchine."""
    waits = waits_ms(10.0, 100 * used, 1)

    assert waits.mean() == pytest.approx(10.0 * used / (2 * (1 - used)), rel=0.05)
    assert (waits == 0).mean() == pytest.approx(1 - used, abs=0.01)


def test_more_cores_wait_less_and_too_few_for_ever() -> None:
    """At the same use of each core; and an idle machine takes what a search costs."""
    assert waits_ms(10.0, 160, 2).mean() < waits_ms(10.0, 80, 1).mean()
    assert p99_ms(10.0, 0.1, 2) == pytest.approx(10.0)
    assert p99_ms(10.0, 200, 2) == math.inf
