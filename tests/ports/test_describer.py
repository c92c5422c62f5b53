"""What every describer promises, held against the fake and against Triton with the shipped model."""

from collections.abc import AsyncIterator

import numpy as np
import pytest

from pspsearch.app.describer import open_describer
from pspsearch.config import BundledTritonSettings
from pspsearch.domain import Pixels
from pspsearch.errors import InvalidRequest, RetryLater
from pspsearch.images.pixels import decode_pixels
from pspsearch.model.repository import default_repository
from pspsearch.ports import Describer
from tests.fakes.describer import ColourDescriber
from tests.pictures import encode, load_photo

TOLERANCE = 5e-3
"""Of a number of a unit vector: bf16 has steps of 2^-8, and the kernels of another batch size round otherwise."""


@pytest.fixture(scope="module", params=["fake", "Triton"])
async def describer(request: pytest.FixtureRequest) -> AsyncIterator[Describer]:
    """Each of them."""
    if request.param == "fake":
        yield ColourDescriber()
        return
    async with open_describer(BundledTritonSettings(default_repository()), "pspnet") as describer:
        yield describer


@pytest.fixture
def pixels(describer: Describer) -> Pixels:
    """Two photographs, as the model takes them."""
    shape = describer.version.contract.input
    return np.stack([decode_pixels(encode(load_photo(number=number)), shape) for number in (0, 1)])


async def test_descriptors_are_unit_rows_of_the_promised_dimension(describer: Describer, pixels: Pixels) -> None:
    """One for each image, float32."""
    rows = await describer.describe(pixels)

    assert (rows.shape, rows.dtype) == ((2, describer.version.contract.dimension), np.float32)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)  # float32 sums of up to 512 squares
    assert rows[0] @ rows[1] < 0.95


async def test_batch_equals_single(describer: Describer, pixels: Pixels) -> None:
    """In their order: what travels with an image does not matter."""
    together = await describer.describe(pixels)
    apart = [(await describer.describe(one[None]))[0] for one in pixels]

    np.testing.assert_allclose(together, apart, atol=TOLERANCE)


async def test_pixels_of_another_shape_are_refused(describer: Describer, pixels: Pixels) -> None:
    """Before they get anywhere."""
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

    assert len(await describer.describe(pixels)) == 2
