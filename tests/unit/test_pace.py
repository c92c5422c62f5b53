"""How long describing stored images rests, so that others get their share."""

import time

import pytest

from pspsearch.rollout.filling import Pace
from pspsearch.search.latencies import Latencies


def pace(share: float, latencies: Latencies | None = None) -> Pace:
    """Which eases off when searches take more than twice as long."""
    return Pace(share, 2.0, latencies or Latencies())


@pytest.mark.parametrize("share", [1.0, 0.5, 0.25, 0.01])
def test_a_share_of_the_batches_that_there_could_be_is_made(share: float) -> None:
    """With nobody else there."""
    one = pace(share)
    taken = [0.04 + one.pause_s(0.04) for _ in range(10)]
    assert taken == pytest.approx([0.04 / share] * 10)


def test_waiting_for_others_is_no_reason_to_rest() -> None:
    """The rate stays what it is, as far as it can."""
    one = pace(0.25)
    one.pause_s(0.04)
    assert 0.06 + one.pause_s(0.06) == pytest.approx(0.16, rel=0.03)
    assert one.pause_s(0.5) == 0


def test_batches_that_have_become_dearer_rest_longer_by_and_by() -> None:
    """Another input may cost more; one quick batch is the measure again."""
    one = pace(0.5)
    one.pause_s(0.01)
    pauses = [one.pause_s(0.1) for _ in range(200)]
    assert pauses[0] == 0
    assert pauses[-1] == pytest.approx(0.1)
    assert one.pause_s(0.01) == pytest.approx(0.01)


def test_it_eases_off_while_searches_suffer() -> None:
    """Down to a tenth, and comes back as fast when they do not any more."""
    latencies = Latencies()
    for _ in range(200):
        latencies.add(time.perf_counter(), 0.01)
    one = pace(0.5, latencies)
    assert one.pause_s(0.04) == pytest.approx(0.04)
    with latencies.company():
        for _ in range(128):
            latencies.add(time.perf_counter(), 0.05)
    pauses = [one.pause_s(0.04) for _ in range(50)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == pytest.approx(0.04 / 0.05 - 0.04)
    for _ in range(128):
        latencies.add(time.perf_counter(), 0.01)
    assert [one.pause_s(0.04) for _ in range(50)][-1] == pytest.approx(0.04)
