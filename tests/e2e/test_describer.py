"""The Describer port over a real Triton."""

import asyncio

import numpy as np
import pytest

from pspsearch.domain import Pixels
from pspsearch.errors import DeadlineExceeded, InvalidRequest, ModelMismatch, TritonUnavailable
from pspsearch.images.pixels import decode_pixels
from pspsearch.triton.client import TritonClient
from pspsearch.triton.describer import TritonDescriber
from tests.e2e.conftest import SHIPPED, crops
from tests.pictures import encode_turned, load_photo

BATCH_COSINE = 0.9999
"""The least cosine of an image in a batch and alone: bf16 sums round in another order for other batch sizes."""


def batch(photographs: list[Pixels], describer: TritonDescriber, count: int) -> Pixels:
    """`count` different images of the model's size."""
    return np.stack(crops(photographs, describer.version.contract.shape, count))


async def test_answers_unit_vectors_of_the_promised_dimension(
    describer: TritonDescriber, photographs: list[Pixels]
) -> None:
    """They have the contract's dimension and length 1, and different images differ."""
    descriptors = (await describer.describe(batch(photographs, describer, 5))).descriptors

    assert descriptors.shape == (5, describer.version.contract.dimension)
    np.testing.assert_allclose(np.linalg.norm(descriptors, axis=1), 1, atol=1e-5)
    assert (descriptors @ descriptors.T)[~np.eye(5, dtype=bool)].max() < 0.999


@pytest.mark.parametrize("count", [2, 8, 32, 77])
async def test_batch_equals_single(describer: TritonDescriber, photographs: list[Pixels], count: int) -> None:
    """However many images come together, each gets what it would get alone; 77 is more than Triton takes at once."""
    pixels = batch(photographs, describer, count)

    together = (await describer.describe(pixels)).descriptors

    alone = np.concatenate([(await describer.describe(image[None])).descriptors for image in pixels])
    assert (together * alone).sum(axis=1).min() >= BATCH_COSINE


async def test_concurrent_callers_get_their_own(describer: TritonDescriber, photographs: list[Pixels]) -> None:
    """Requests that Triton gathers into one batch are separated again without a mix-up."""
    pixels = batch(photographs, describer, 60)
    expected = np.concatenate([(await describer.describe(image[None])).descriptors for image in pixels])

    answers = await asyncio.gather(*(describer.describe(image[None]) for image in pixels))

    assert (np.concatenate([answer.descriptors for answer in answers]) * expected).sum(axis=1).min() >= BATCH_COSINE


async def test_both_ways_give_the_same(client: TritonClient, photographs: list[Pixels]) -> None:
    """Shared memory changes how pixels travel, not the answer: it is equal bit for bit."""
    async with (
        await TritonDescriber.open(client, SHIPPED, shared_memory=True) as shared,
        await TritonDescriber.open(client, SHIPPED, shared_memory=False) as plain,
    ):
        pixels = batch(photographs, shared, 3)

        one, other = await shared.describe(pixels), await plain.describe(pixels)
        np.testing.assert_array_equal(one.descriptors, other.descriptors)


async def test_full_ring_sends_pixels_in_the_request(client: TritonClient, photographs: list[Pixels]) -> None:
    """More images under way than the ring has cells are slower, not wrong."""
    async with await TritonDescriber.open(client, SHIPPED, shared_memory=True) as describer:
        pixels = batch(photographs, describer, 32)
        expected = (await describer.describe(pixels)).descriptors

        answers = await asyncio.gather(*(describer.describe(pixels) for _ in range(5)))

    for answer in answers:
        assert (answer.descriptors * expected).sum(axis=1).min() >= BATCH_COSINE


async def test_eight_orientations_of_one_photograph_agree(describer: TritonDescriber) -> None:
    """A camera held sideways finds the same things. JPEG's blocks fall differently, hence 0.98.

    A picture that nobody turned upright is much further away.
    """
    shape = describer.version.contract.shape
    pixels = [decode_pixels(encode_turned(load_photo(), turn, quality=95), shape) for turn in range(1, 9)]

    descriptors = (await describer.describe(np.stack(pixels))).descriptors

    assert (descriptors @ descriptors[0]).min() >= 0.98
    lying = (await describer.describe(np.rot90(pixels[0])[None].copy())).descriptors[0]
    assert lying @ descriptors[0] < 0.9


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((1, 256, 256, 3), np.float32),
        np.zeros((256, 256, 3), np.uint8),
        np.zeros((1, 3, 256, 256), np.uint8),
        np.zeros((1, 96, 96, 3), np.uint8),
        np.zeros((0, 256, 256, 3), np.uint8),
    ],
    ids=["floats", "no batch axis", "channels first", "other size", "no image"],
)
async def test_refuses_other_pixels(describer: TritonDescriber, pixels: Pixels) -> None:
    """What the contract does not take is refused before it is sent."""
    with pytest.raises(InvalidRequest, match="takes uint8 pixels of N x 256 x 256 x 3"):
        await describer.describe(pixels)


async def test_deadline_is_kept(describer: TritonDescriber, photographs: list[Pixels]) -> None:
    """A deadline too short for any inference ends the call, and the next caller is served."""
    pixels = batch(photographs, describer, 32)

    with pytest.raises(DeadlineExceeded):
        await describer.describe(pixels, timeout_s=0.0005)

    assert len((await describer.describe(pixels[:1], timeout_s=10)).descriptors) == 1


async def test_cancelled_callers_give_everything_back(client: TritonClient, photographs: list[Pixels]) -> None:
    """Callers that leave do not keep cells of the ring, and those that stay get their own answers."""
    async with await TritonDescriber.open(client, SHIPPED, shared_memory=True) as describer:
        pixels = batch(photographs, describer, 32)
        expected = (await describer.describe(pixels)).descriptors
        for _ in range(20):
            leaving = [asyncio.create_task(describer.describe(pixels[::-1])) for _ in range(3)]
            staying = asyncio.create_task(describer.describe(pixels))
            await asyncio.sleep(0)  # now they have started
            for task in leaving:
                task.cancel()
            await asyncio.gather(*leaving, return_exceptions=True)

            assert ((await staying).descriptors * expected).sum(axis=1).min() >= BATCH_COSINE
        assert describer._ring is not None
        assert describer._ring.take(128) == 0


async def test_unknown_version_is_refused(client: TritonClient) -> None:
    """The sentence says which versions there are."""
    with pytest.raises(ModelMismatch, match=r"serves pspnet in version \[1.*not 99"):
        await TritonDescriber.open(client, SHIPPED, 99)


async def test_unknown_model_is_refused(client: TritonClient) -> None:
    """A model that is not in the repository."""
    with pytest.raises(ModelMismatch, match="serves no version of resnet"):
        await TritonDescriber.open(client, "resnet")


async def test_unreachable_triton_is_unavailable() -> None:
    """Nobody listens on port 1."""
    async with TritonClient("127.0.0.1:1") as client:
        with pytest.raises(TritonUnavailable, match=r"127\.0\.0\.1:1 cannot be reached"):
            await client.index()
