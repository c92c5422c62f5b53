"""What the shipped model says of pictures whose parts are known: a server with the model in its own process."""

from collections.abc import Iterator
from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pspsearch.app.sample import read_gallery
from pspsearch.client import Area, Client, Explanation, ItemInput
from tests.pictures import encode, load_photo
from tests.servers.search_server import serve

GALLERY = {one.id: one.source for one in read_gallery()}
THINGS = [f"{shape}-{number:02}" for shape in ("ball", "mug", "ring", "mushroom") for number in (1, 2, 3)]
SIDE_PX = 224
REMAINDER = 0.002
"""Ten times what the shipped model leaves of a score, whose head is linear."""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of an empty server."""
    folder = tmp_path_factory.mktemp("data")
    with serve(folder, "", "--runtime", "embedded") as server, Client(server.address) as client:
        yield client


def view(thing: str, number: int) -> bytes:
    """One of six pictures of a thing."""
    image = GALLERY[f"{thing}/{number}"]
    assert isinstance(image, bytes)
    return image


def show(thing: str) -> Image.Image:
    """The first picture of a thing."""
    return Image.open(BytesIO(view(thing, 1)))


def share_within(box: Area, shares: NDArray[np.float32]) -> float:
    """The share of the score in a part of the picture; a cell that is half inside counts half."""

    def inside(low: float, high: float) -> list[float]:
        cells = len(shares)
        return [max(0, min(cell + 1, high * cells) - max(cell, low * cells)) for cell in range(cells)]

    weights = np.outer(inside(box.top, box.bottom), inside(box.left, box.right))
    return float((shares * weights).sum() / shares.sum())


def explain(client: Client, query: bytes, item: bytes) -> Explanation:
    """Puts the item in and explains it."""
    client.upsert([ItemInput("item", item)])
    explanation = client.explain(query, "item")
    hit = client.search(query, limit=1).hits[0]
    assert (hit.id, hit.score) == ("item", pytest.approx(explanation.score, abs=1e-6))  # float32
    return explanation


def test_the_thing_that_was_asked_for_has_more_than_its_share_of_the_area(client: Client) -> None:
    """It is pasted into a photograph, anywhere, and the query is another picture of the same thing."""
    rng = np.random.default_rng(0)
    size = 96
    shares: list[float] = []
    for number, thing in enumerate(THINGS):
        scene = load_photo(number=number % 2).resize((SIDE_PX, SIDE_PX))
        left, top = (int(place) for place in rng.integers(0, SIDE_PX - size, 2))
        scene.paste(show(thing).crop((20, 20, 204, 204)).resize((size, size)), (left, top))

        explanation = explain(client, view(thing, 2), encode(scene))

        assert explanation.item is not None
        assert abs(explanation.item.remainder) < REMAINDER
        box = Area(*(place / SIDE_PX for place in (left, top, left + size, top + size)))
        shares.append(share_within(box, explanation.item.shares))
    area = (size / SIDE_PX) ** 2
    assert min(shares) > area
    assert np.mean(shares) > 2 * area


def test_of_two_things_in_a_picture_the_one_that_was_asked_for_is_shown(client: Client) -> None:
    """The same picture, asked for its left half and for its right half."""
    right: list[bool] = []
    for one, other in zip(THINGS, [*THINGS[4:], *THINGS[:4]], strict=True):
        both = Image.new("RGB", (SIDE_PX, SIDE_PX))
        for place, thing in ((0, one), (SIDE_PX // 2, other)):
            both.paste(show(thing).crop((SIDE_PX // 4, 0, 3 * SIDE_PX // 4, SIDE_PX)), (place, 0))
        for thing, box in ((one, Area(0, 0, 0.5, 1)), (other, Area(0.5, 0, 1, 1))):
            explanation = explain(client, view(thing, 2), encode(both))
            assert explanation.item is not None
            right.append(share_within(box, explanation.item.shares) > 0.5)

    assert np.mean(right) > 0.8


def test_the_query_has_a_heat_map_and_pairs_with_the_item(client: Client) -> None:
    """Its background gives less than the thing in its middle, and the best cells of both are alike."""
    explanation = explain(client, view("ball-03", 6), view("ball-03", 2))

    assert explanation.query is not None
    assert abs(explanation.query.remainder) < REMAINDER
    assert share_within(Area(0.25, 0.25, 0.75, 0.75), explanation.query.shares) > 0.4
    assert explanation.pairs[0].score > 0.7
