"""Models that others wrote for Triton: one command adopts them, and they are served like our own.

One decodes images by itself, the other takes texts. Both describe in one space, which their contracts name.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pspsearch.client import Client, Descriptor, ItemInput
from pspsearch.config import BundledTritonSettings
from pspsearch.errors import BadImage, DamagedImage, InvalidRequest, ModelMismatch
from pspsearch.triton.client import TritonClient
from pspsearch.triton.describer import TritonDescriber
from pspsearch.triton.process import BundledTriton
from pspsearch_build.publish.adopt import Adoption, adopt
from tests.pictures import encode, load_photo
from tests.servers.search_server import serve

COLOURS = {"red": (220, 20, 20), "green": (20, 220, 20), "blue": (20, 20, 220)}

PROGRAM = """
import io
import numpy as np
import triton_python_backend_utils as pb_utils
from PIL import Image, ImageColor

class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(one) for one in requests]

    def answer(self, request):
        try:
            return pb_utils.InferenceResponse([pb_utils.Tensor("descriptor", self.describe(request))])
        except OSError as error:
            failure = pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse(error=failure)

    def describe(self, request):
        given = pb_utils.get_input_tensor_by_name(request, "NAME").as_numpy()
        rows = np.asarray([COLOUR for one in given[:, 0]], np.float32) + 1
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)
"""
MEAN_COLOUR = 'np.asarray(Image.open(io.BytesIO(one)).convert("RGB")).mean(axis=(0, 1))'
NAMED_COLOUR = "ImageColor.getrgb(one.decode())"

CONFIG = """
backend: "python"
max_batch_size: 4
version_policy {{ all {{ }} }}
input {{ name: "{0}" data_type: TYPE_STRING dims: [ 1 ] }}
output {{ name: "descriptor" data_type: TYPE_FP32 dims: [ 3 ] }}
"""


def write_model(repository: Path, name: str, takes: str, colour: str, precision: str) -> None:
    """Writes a model as its maker left it, and adopts it."""
    version = repository / name / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(PROGRAM.replace("NAME", takes).replace("COLOUR", colour))
    (version.parent / "config.pbtxt").write_text(f'name: "{name}"' + CONFIG.format(takes))
    adopt(version, Adoption(precision, space="mean colours"))


@pytest.fixture(scope="module")
async def foreign(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[BundledTriton]:
    """A Triton that serves both."""
    repository = tmp_path_factory.mktemp("models")
    write_model(repository, "pictures", "image", MEAN_COLOUR, "fp32")
    write_model(repository, "words", "text", NAMED_COLOUR, "fp16")
    async with BundledTriton(BundledTritonSettings(repository)) as triton:
        triton.require("pictures")
        triton.require("words")
        yield triton


@pytest.fixture
def pictures() -> dict[str, bytes]:
    """One picture of each colour."""
    return {name: encode(Image.new("RGB", (40, 30), colour)) for name, colour in COLOURS.items()}


async def test_encoded_images_and_texts_are_described(foreign: BundledTriton, pictures: dict[str, bytes]) -> None:
    """More than a batch of them are, too; inputs of another kind are refused before they are sent."""
    async with (
        TritonClient(foreign.address) as client,
        await TritonDescriber.open(client, "pictures") as images,
        await TritonDescriber.open(client, "words") as words,
    ):
        seen = (await images.describe([*pictures.values()] * 3)).descriptors
        named = (await words.describe([*pictures])).descriptors

        assert seen.shape == (9, 3)
        np.testing.assert_array_equal(seen[:3], seen[3:6])
        assert (seen[:3] @ named.T).argmax(axis=1).tolist() == [0, 1, 2]
        with pytest.raises(InvalidRequest, match="takes encoded images"):
            await images.describe(["red"])
        with pytest.raises(InvalidRequest, match="takes texts"):
            await words.describe(np.zeros((1, 8, 8, 3), np.uint8))


async def test_a_search_by_words_finds_pictures(
    foreign: BundledTriton, pictures: dict[str, bytes], tmp_path: Path
) -> None:
    """The server keeps pictures that its model decodes, and takes descriptors from the text model."""
    async with TritonClient(foreign.address) as triton, await TritonDescriber.open(triton, "words") as words:
        (row,) = (await words.describe(["green"])).descriptors
        query = Descriptor(row, words.version.contract.fingerprint)
    with serve(tmp_path, foreign.address, "--model", "pictures") as server, Client(server.address) as client:
        client.upsert([ItemInput(name, image) for name, image in pictures.items()])

        assert client.search(query).hits[0].id == "green"
        assert client.search(pictures["blue"]).hits[0].id == "blue"
        with pytest.raises(BadImage):
            client.search(pictures["red"][:40])


async def test_a_collection_needs_a_model_of_images(foreign: BundledTriton, tmp_path: Path) -> None:
    """A model of texts is refused with a sentence."""
    with (
        serve(tmp_path, foreign.address, "--model", "pictures") as server,
        Client(server.address) as client,
        pytest.raises(ModelMismatch, match="words/1 takes texts, and a collection needs a model that takes images"),
    ):
        client.create_collection("texts", model="words")


async def test_an_image_that_its_model_cannot_read_fails_alone(
    foreign: BundledTriton, pictures: dict[str, bytes], tmp_path: Path
) -> None:
    """Its header is whole, so only the model finds out, and says so for this request alone."""
    whole = encode(load_photo())
    images = {"whole": whole, "torn": whole[: len(whole) // 2], "red": pictures["red"]}
    with serve(tmp_path, foreign.address, "--model", "pictures") as server, Client(server.address) as client:
        given = client.upsert([ItemInput(name, image) for name, image in images.items()])

    assert [type(one.error) for one in given] == [type(None), DamagedImage, type(None)]
