"""What live searches suffer from work beside them."""

import time

from pspsearch.search.latencies import Latencies


def add(latencies: Latencies, count: int, seconds: float) -> None:
    """Searches that begin and end now."""
    for _ in range(count):
        latencies.add(time.perf_counter(), seconds)


def test_strain_is_the_slowest_of_late_over_the_slowest_alone() -> None:
    """And comes back to 1 when nobody suffers any more."""
    latencies = Latencies()
    add(latencies, 200, 0.01)
    assert latencies.strain == 1

    with latencies.company():
        add(latencies, 128, 0.03)
    assert latencies.strain == 3
    add(latencies, 128, 0.01)

    assert latencies.strain == 1


def test_a_search_that_began_before_the_company_left_was_not_alone() -> None:
    """Its time is no measure for the others."""
    latencies = Latencies()
    add(latencies, 100, 0.01)
    began = time.perf_counter()
    with latencies.company():
        pass
    for _ in range(128):
        latencies.add(began, 0.05)

    assert latencies.strain == 5


def test_too_few_searches_tell_nothing() -> None:
    """One that is slow by chance slows nothing down."""
    latencies = Latencies()
    add(latencies, 100, 0.001)
    assert latencies.strain == 1
    with latencies.company():
        add(latencies, 3, 1.0)
    assert latencies.strain < 2
    assert Latencies().strain == 1
