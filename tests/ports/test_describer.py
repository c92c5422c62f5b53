"""What every describer promises, tested with the fake and with Triton and the shipped model."""

from collections.abc import AsyncIterator

import numpy as np
import pytest

from pspsearch.app.describer import open_describer
from pspsearch.config import BundledTritonSettings
from pspsearch.domain import Inputs, Pixels
from pspsearch.embedded.versions import EmbeddedVersions
from pspsearch.errors import InvalidRequest, RetryLater
from pspsearch.images.pixels import ImageLimits, decode_pixels
from pspsearch.model.repository import default_repository
from pspsearch.ports import Describer
from tests.fakes.describer import ColourDescriber
from tests.pictures import encode, load_photo

TOLERANCE = 5e-3
"""The tolerance for a number of a unit vector: bf16 has steps of 2^-8, and other batch sizes round otherwise."""


@pytest.fixture(scope="module", params=["fake", "Triton", "embedded"])
async def describer(request: pytest.FixtureRequest) -> AsyncIterator[Describer]:
    """Each describer in turn."""
    if request.param == "fake":
        yield ColourDescriber()
        return
    if request.param == "embedded":
        versions = EmbeddedVersions(default_repository(), ImageLimits())
        yield await versions.open("pspnet", None)
        await versions.close()
        return
    async with open_describer(BundledTritonSettings(default_repository()), "pspnet") as describer:
        yield describer


@pytest.fixture
def pixels(describer: Describer) -> Pixels:
    """Two photographs, as the model takes them."""
    shape = describer.version.contract.shape
    return np.stack([decode_pixels(encode(load_photo(number=number)), shape) for number in (0, 1)])


async def test_descriptors_are_unit_rows_of_the_promised_dimension(describer: Describer, pixels: Pixels) -> None:
    """There is one for each image, in float32."""
    rows = (await describer.describe(pixels)).descriptors

    assert (rows.shape, rows.dtype) == ((2, describer.version.contract.dimension), np.float32)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)  # float32 sums of up to 512 squares
    assert rows[0] @ rows[1] < 0.95


async def test_batch_equals_single(describer: Describer, pixels: Pixels) -> None:
    """Rows come in order, and do not depend on the other images of the batch."""
    together = (await describer.describe(pixels)).descriptors
    apart = [(await describer.describe(one[None])).descriptors[0] for one in pixels]

    np.testing.assert_allclose(together, apart, atol=TOLERANCE)


async def test_pixels_of_another_shape_are_refused(describer: Describer, pixels: Pixels) -> None:
    """They are refused before they are sent."""
    with pytest.raises(InvalidRequest):
        await describer.describe(pixels[:, :-1])


async def test_deadline_is_kept(describer: Describer, pixels: Pixels) -> None:
    """No time at all is too short for any model; Triton may drop the request from its queue before it is late."""
    if isinstance(describer, ColourDescriber):
        describer.may_answer.clear()
    with pytest.raises(RetryLater):
        await describer.describe(pixels, timeout_s=1e-6)
    if isinstance(describer, ColourDescriber):
        describer.may_answer.set()

    assert len((await describer.describe(pixels)).descriptors) == 2


async def test_cells_come_where_they_are_asked_for(describer: Describer, pixels: Pixels) -> None:
    """Each is a unit vector of the same space; a model without cells leaves them out."""
    cells = describer.version.contract.cells

    plain, both = await describer.describe(pixels), await describer.describe(pixels, cells=True)

    assert plain.cells is None
    np.testing.assert_allclose(plain.descriptors, both.descriptors, atol=TOLERANCE)
    if not cells:
        assert both.cells is None
        return
    assert both.cells is not None
    assert both.cells.shape == (2, cells, describer.version.contract.dimension)
    np.testing.assert_allclose(np.linalg.norm(both.cells, axis=2), 1, atol=1e-3)
    whole = both.cells[:, 0] @ both.descriptors.T
    assert whole.argmax(axis=1).tolist() == [0, 1]


@pytest.mark.parametrize("inputs", [["text"], [b"no image"], np.zeros((0, 1, 1, 3), np.uint8)])
async def test_inputs_of_another_kind_are_refused(describer: Describer, inputs: Inputs) -> None:
    """The contract says which kind it takes."""
    with pytest.raises(InvalidRequest):
        await describer.describe(inputs)
