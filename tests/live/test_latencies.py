"""How other work for the model slows live searches down."""

import time

from pspsearch.live.latencies import Latencies


def add(latencies: Latencies, count: int, seconds: float, started: float | None = None) -> None:
    """Adds searches that end now, and also begin now unless `started` says otherwise."""
    for _ in range(count):
        latencies.add(time.perf_counter() if started is None else started, seconds)


def test_strain_is_the_slowest_of_late_over_the_slowest_alone() -> None:
    """It returns to 1 when searches are no longer slowed down."""
    latencies = Latencies()
    add(latencies, 200, 0.01)
    assert latencies.strain == 1

    with latencies.company():
        add(latencies, 128, 0.03)
    assert latencies.strain == 3
    add(latencies, 128, 0.01)

    assert latencies.strain == 1


def test_a_search_that_began_before_the_company_left_was_not_alone() -> None:
    """Its time does not count as undisturbed."""
    latencies = Latencies()
    add(latencies, 100, 0.01)
    began = time.perf_counter()
    with latencies.company():
        pass
    add(latencies, 128, 0.05, began)

    assert latencies.strain == 5


def test_late_searches_are_past_where_none_come() -> None:
    """There is no strain then, and a search after such a rest does not bring the old times back."""
    now = 0.0
    latencies = Latencies(lambda: now)
    add(latencies, 100, 0.01, 1.0)
    with latencies.company():
        add(latencies, 128, 0.03, 1.0)
        now = 10.0
        assert latencies.strain == 3
        now = 10.5
        assert latencies.strain == 1
        add(latencies, 1, 0.03, 10.5)
        assert latencies.strain == 1
        add(latencies, 31, 0.03, 10.5)

    assert latencies.strain == 3


def test_a_search_that_takes_longer_than_a_rest_is_none() -> None:
    """The slow searches before it still count."""
    now = 0.0
    latencies = Latencies(lambda: now)
    add(latencies, 100, 1.0, 1.0)
    with latencies.company():
        for number in range(32):
            now = 20.0 * (number + 1)
            latencies.add(now - 20, 20.0)

    assert latencies.strain == 20


def test_too_few_searches_tell_nothing() -> None:
    """One search that is slow by chance means no strain."""
    latencies = Latencies()
    add(latencies, 100, 0.001)
    assert latencies.strain == 1
    with latencies.company():
        add(latencies, 3, 1.0)
    assert latencies.strain < 2
    assert Latencies().strain == 1
