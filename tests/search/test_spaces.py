"""Searches with descriptors of a model of texts, in the space that the collection's model of images names too."""

import pytest
from PIL import Image

from pspsearch.domain import ModelVersion
from pspsearch.v1 import resources_pb2 as resources
from pspsearch.v1 import search_service_pb2 as searches
from tests.fakes.describer import ColourDescriber, ColourWords, version
from tests.pictures import encode
from tests.servers.rpc_client import item, open_api, query, refuse

COLOURS = ("red", "lime", "blue")
SPACE = "mean colours"


def picture(colour: str) -> bytes:
    """A picture that has nothing but the colour."""
    return encode(Image.new("RGB", (32, 32), colour), "PNG")


async def ask(words: ColourWords, text: str) -> searches.Query:
    """The query that a text becomes in a model of texts."""
    (row,) = (await words.describe([text])).descriptors
    return query(descriptor=resources.Descriptor(values=row.tolist(), fingerprint=words.version.contract.fingerprint))


@pytest.mark.parametrize("text", COLOURS)
async def test_a_text_finds_pictures_of_the_space_that_both_models_name(text: str) -> None:
    """The models compute in different precisions, and take different things."""
    images = ColourDescriber(version(1, space=SPACE))
    async with open_api(versions={1: images}) as api:
        await api.fill(*(item(colour, picture(colour)) for colour in COLOURS))

        answer = await api.search.Search(searches.SearchRequest(query=await ask(ColourWords(SPACE), text)))

        assert answer.hits[0].id == text
        assert answer.hits[0].score == pytest.approx(1, abs=2e-3)
        assert answer.origin.fingerprint == images.version.contract.fingerprint


@pytest.mark.parametrize("images", [version(1), version(1, space="other colours")])
async def test_a_text_of_another_space_is_refused(images: ModelVersion) -> None:
    """Whether the model of images names another space, or none."""
    async with open_api(versions={1: ColourDescriber(images)}) as api:
        await api.fill(item("red", picture("red")))

        refusal = await refuse(api.search.Search(searches.SearchRequest(query=await ask(ColourWords(SPACE), "red"))))

        assert refusal.reason == "MODEL_MISMATCH"
