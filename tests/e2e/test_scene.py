"""README's picture of six things in one room, and the shipped model."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pspsearch.client import Client, Region
from tests.servers.search_server import serve, wait_for_sample

SCENE = Path(__file__).parents[2] / "docs" / "scene.jpg"

BOXES = {
    "ball-03": (0.01, 0.43, 0.34, 0.75),
    "teapot-01": (0.35, 0.46, 0.75, 0.73),
    "rocket-02": (0.75, 0.37, 1.0, 0.75),
    "lamp-03": (0.46, 0.29, 0.67, 0.53),
    "house-02": (0.05, 0.28, 0.3, 0.48),
}
"""Where the things are. Of the sixth, the chair, only a corner is to be seen."""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of a server with the sample gallery."""
    folder = tmp_path_factory.mktemp("data")
    with serve(folder, "", "--runtime", "embedded", "--sample") as server, Client(server.address) as client:
        wait_for_sample(client)
        yield client


@pytest.mark.parametrize(("thing", "box"), BOXES.items())
def test_box_finds_its_thing(client: Client, thing: str, box: tuple[float, float, float, float]) -> None:
    """Three of the six pictures of the thing come before all others."""
    found = client.search(Region(SCENE, box), collection="sample", limit=3)

    assert {hit.id.partition("/")[0] for hit in found.hits} == {thing}
