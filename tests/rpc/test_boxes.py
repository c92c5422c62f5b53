"""Searches for a part of an image, over a real channel; the model is a fake that looks at colours."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from pspsearch.domain import Inputs, Pixels
from pspsearch.images.pixels import decode_pixels
from pspsearch.model.contract import Takes
from pspsearch.v1 import resources_pb2 as resources
from pspsearch.v1 import search_service_pb2 as searches
from tests.fakes.describer import ColourDescriber, version
from tests.pictures import encode, encode_turned, load_photo
from tests.servers.rpc_client import FLOWER, TEMPLE, Api, Refusal, item, open_api, query, refuse

LEFT: dict[str, Any] = {"right": 0.5, "bottom": 1}
RIGHT: dict[str, Any] = {"left": 0.5, "right": 1, "bottom": 1}
"""The halves of `BOTH`."""


def draw_both() -> Image.Image:
    """The temple to the left of the flower."""
    both = Image.new("RGB", (192, 64))
    for number in (0, 1):
        both.paste(load_photo(96, 64, number), (96 * number, 0))
    return both


BOTH = encode(draw_both(), "PNG")


class Decoding(ColourDescriber):
    """A describer that takes images or pixels for a model of pixels, as the embedded runtime's does."""

    @property
    def takes(self) -> Takes:
        """Not what the contract says."""
        return Takes.IMAGE

    def _pixels(self, inputs: Inputs) -> list[Pixels]:
        if isinstance(inputs, np.ndarray):
            return super()._pixels(inputs)
        return [decode_pixels(one, self.version.contract.shape) for one in inputs if isinstance(one, bytes)]


DESCRIBERS = {"pixels": ColourDescriber, "images": Decoding}


@pytest.fixture(params=DESCRIBERS)
async def api(request: pytest.FixtureRequest) -> AsyncIterator[Api]:
    """A server with two photographs, whose describer takes pixels or images."""
    async with open_api(versions={1: DESCRIBERS[request.param]()}) as api:
        await api.fill(item("temple", TEMPLE), item("flower", FLOWER))
        yield api


def part(image: bytes = BOTH, **box: Any) -> searches.Query:
    """A query by a part of an image."""
    return query(image=image, box=resources.Box(**box))


async def best(api: Api, by: searches.Query) -> tuple[str, float]:
    """The id and the score of the best hit."""
    options = searches.SearchOptions(limit=1)
    (hit,) = (await api.search.Search(searches.SearchRequest(query=by, options=options))).hits
    return hit.id, hit.score


async def test_a_box_says_which_part_is_searched_for(api: Api) -> None:
    """Each half finds its own photograph, in fractions and in pixels, as well as the photograph does itself."""
    pixels: dict[str, Any] = {"left": 96, "right": 192, "bottom": 64, "in_px": True}

    for box, id_ in ((LEFT, "temple"), (RIGHT, "flower"), (pixels, "flower")):
        found, score = await best(api, part(**box))
        assert (found, score) == (id_, pytest.approx(1, abs=0.01))  # JPEG's loss in what is stored
    assert (await best(api, query(image=BOTH)))[1] < 0.95


async def test_a_box_is_of_the_picture_as_it_is_shown(api: Api) -> None:
    """The file asks for a turn, and the caller sees the picture after it."""
    for turn in range(1, 9):
        found, score = await best(api, part(encode_turned(draw_both(), turn, "PNG"), **RIGHT))
        assert (found, score) == ("flower", pytest.approx(1, abs=0.01))


async def test_every_query_takes_a_box(api: Api) -> None:
    """In a batch, a stream, a comparison, a recommendation and a description; some have one, and others none."""
    one = searches.SearchOptions(limit=1)
    queries = [part(**RIGHT), query(image=TEMPLE), part(right=3), part(TEMPLE[:500], **LEFT), part(**LEFT)]
    batch = await api.search.BatchSearch(searches.BatchSearchRequest(queries=queries, options=one))
    assert [[hit.id for hit in each.hits] for each in batch.results] == [["flower"], ["temple"], [], [], ["temple"]]
    reasons = [Refusal(each.status).reason for each in batch.results[2:4]]
    assert reasons == ["INVALID_REQUEST", "DAMAGED_IMAGE"]

    stream = api.search.SearchStream(
        searches.SearchStreamRequest(tag=str(n), request=searches.SearchRequest(query=by, options=one))
        for n, by in enumerate(queries)
    )
    answers = {int(answer.tag): [hit.id for hit in answer.response.hits] async for answer in stream}
    assert answers == {n: [hit.id for hit in each.hits] for n, each in enumerate(batch.results)}

    compared = await api.search.Compare(searches.CompareRequest(left=part(**RIGHT), right=query(id="flower")))
    assert compared.score == pytest.approx(1, abs=0.01)
    recommended = await api.search.Recommend(
        searches.RecommendRequest(positives=[part(**RIGHT)], negatives=[part(**LEFT)])
    )
    assert [hit.id for hit in recommended.hits] == ["flower", "temple"]
    described = await api.search.Describe(searches.DescribeRequest(image=BOTH, box=resources.Box(**RIGHT)))
    assert await best(api, query(descriptor=described.descriptor)) == await best(api, part(**RIGHT))


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (query(id="temple", box=resources.Box(**LEFT)), "a box is a part of an image, and the query has none"),
        (query(box=resources.Box(**LEFT)), "a box is a part of an image, and the query has none"),
        (part(), "the box 0,0,0,0 is empty"),
        (part(left=float("nan"), **LEFT), "not finite"),
        (part(left=-1, **LEFT), "begins at 0"),
        (part(right=100, bottom=50), "pixels need in_px"),
        (
            part(right=193, bottom=64, in_px=True),
            "the box 0,0,193,64px reaches beyond the picture, which has 192x64 px",
        ),
        (part(left=0.5, right=0.501, bottom=1), "smaller than a pixel"),
    ],
)
async def test_a_box_that_makes_no_sense_is_a_sentence(api: Api, asked: searches.Query, words: str) -> None:
    """It is the caller's to mend."""
    refusal = await refuse(api.search.Search(searches.SearchRequest(query=asked)))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert words in refusal.status.message


async def test_a_model_that_decodes_itself_takes_no_box() -> None:
    """Other queries of the same batch are answered."""
    images = ColourDescriber(version(1, input=None, takes=Takes.IMAGE))
    async with open_api(versions={1: images}) as api:
        await api.fill(item("temple", TEMPLE))
        refusal = await refuse(api.search.Search(searches.SearchRequest(query=part(**LEFT))))
        batch = await api.search.BatchSearch(searches.BatchSearchRequest(queries=[part(**LEFT), query(image=TEMPLE)]))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "MODEL_MISMATCH")
    assert "colours/1 decodes images itself and knows no boxes" in refusal.status.message
    assert Refusal(batch.results[0].status).reason == "MODEL_MISMATCH"
    assert [hit.id for hit in batch.results[1].hits] == ["temple"]
