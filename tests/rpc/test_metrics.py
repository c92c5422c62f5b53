"""The metrics that Prometheus reads."""

import asyncio
import re
import socket
import urllib.request
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from pspsearch.v1 import search_service_pb2 as searches
from tests.servers.rpc_client import TEMPLE, Api, item, open_api, query, refuse


def free_port() -> int:
    """A port that is free at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture
async def port() -> int:
    """The port of the metrics."""
    return free_port()


@pytest.fixture
async def api(port: int) -> AsyncIterator[Api]:
    """A server with room for one call at a time."""
    async with open_api(max_calls=1, metrics_port=port) as api:
        yield api


async def read_families(port: int) -> list[Metric]:
    """The present metric families."""

    def read() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
            return response.read().decode()

    return list(text_string_to_metric_families(await asyncio.to_thread(read)))


async def scrape(port: int) -> Callable[..., float]:
    """Every present sample, by name and labels."""
    families = await read_families(port)

    def find(name: str, **labels: str) -> float:
        samples = [one for family in families for one in family.samples]
        (value,) = [one.value for one in samples if (one.name, one.labels) == (name, labels)]
        return value

    return find


async def test_figures_of_the_manual_are_there(api: Api, port: int) -> None:
    """They have the names that people copy into alerts."""
    await api.search.Describe(searches.DescribeRequest(image=TEMPLE))
    manual = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()

    families = await read_families(port)
    there = {family.name for family in families} | {one.name for family in families for one in family.samples}
    counters = {family.name for family in families if family.type == "counter"}

    told = set(re.findall(r"`(pspsearch_\w+)", manual))

    assert len(told) > 5
    assert told <= there - counters


async def test_calls_are_counted_by_method_and_code(api: Api, port: int) -> None:
    """Also counted is how long calls and their stages took."""
    await api.search.Describe(searches.DescribeRequest(image=TEMPLE))
    await api.search.Describe(searches.DescribeRequest(image=TEMPLE))
    await refuse(api.search.Describe(searches.DescribeRequest()))
    sample = await scrape(port)

    assert sample("pspsearch_calls_total", method="Describe", code="OK") == 2
    assert sample("pspsearch_calls_total", method="Describe", code="INVALID_ARGUMENT") == 1
    assert sample("pspsearch_call_seconds_count", method="Describe") == 3
    assert sample("pspsearch_stage_seconds_count", stage="inference") == 2
    assert sample("pspsearch_stage_seconds_sum", stage="decode") > 0


async def test_queries_of_a_stream_count_their_stages(api: Api, port: int) -> None:
    """They count as single searches do."""
    request = searches.SearchStreamRequest(request=searches.SearchRequest(query=query(image=TEMPLE)))
    answers = [answer async for answer in api.search.SearchStream(iter([request, request]))]
    sample = await scrape(port)

    assert len(answers) == 2
    assert sample("pspsearch_stage_seconds_count", stage="search") == 2
    assert sample("pspsearch_calls_total", method="SearchStream", code="OK") == 1


async def test_refusals_and_calls_under_way_are_told(api: Api, port: int) -> None:
    """So an operator sees overload as it happens."""
    api.server.describer.may_answer.clear()
    call = api.search.Describe(searches.DescribeRequest(image=TEMPLE))
    await api.server.describer.entered.wait()
    await refuse(api.search.Describe(searches.DescribeRequest()))
    busy = await scrape(port)
    api.server.describer.may_answer.set()
    await call
    idle = await scrape(port)

    assert (busy("pspsearch_in_flight"), busy("pspsearch_refused_total")) == (1, 1)
    assert busy("pspsearch_calls_total", method="Describe", code="RESOURCE_EXHAUSTED") == 1
    assert idle("pspsearch_in_flight") == 0


async def test_items_are_counted_by_outcome(api: Api, port: int) -> None:
    """Refused items count too."""
    await api.fill(item("a"), item("b"))
    await api.fill(item("a"))
    sample = await scrape(port)

    assert sample("pspsearch_items_total", outcome="created") == 2
    assert sample("pspsearch_items_total", outcome="unchanged") == 1


async def test_indexes_are_told_as_they_are_now(api: Api, port: int) -> None:
    """The samples are by collection and generation."""
    await api.fill(item("a"), item("b"))
    sample = await scrape(port)

    assert sample("pspsearch_index_rows", collection="default", generation="1") == 2
    assert sample("pspsearch_index_measured_recall", collection="default", generation="1") == 1
    assert sample("pspsearch_index_tombstones", collection="default", generation="1") == 0


async def test_metrics_end_with_the_server(port: int) -> None:
    """Their port is free again."""
    async with open_api(metrics_port=port):
        sample = await scrape(port)

    assert sample("pspsearch_in_flight") == 0
    with socket.create_server(("127.0.0.1", port)) as bound:
        assert bound.getsockname()[1] == port
