"""The Describer over a fake Triton with made-up answers. The port's suite checks it with a real one."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from pspsearch.domain import Descriptors, Pixels
from pspsearch.errors import Overloaded, TritonUnavailable
from pspsearch.triton import describer as describers
from pspsearch.triton.client import TritonClient
from pspsearch.triton.describer import TritonDescriber
from tests.fakes.describer import VERSION, describe_pixels
from tests.fakes.triton import ColourTriton, serve_triton


class BusyClient:
    """A client of a Triton whose queue is full."""

    async def infer(self, _request: Any, _timeout_s: float | None) -> Any:
        """Refuses the request."""
        raise Overloaded("Triton's queue is full")


@dataclass
class Place:
    """A Triton, its client, and the restarts that the client asked for."""

    triton: ColourTriton
    client: TritonClient
    started_again: list[float] = field(default_factory=list[float])

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits until the condition holds, at most 30 s."""
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0)


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    """A Triton that works at first."""
    triton, started_again = ColourTriton(), list[float]()
    async with (
        serve_triton(triton) as address,
        TritonClient(address, lambda: started_again.append(1)) as client,
    ):
        yield Place(triton, client, started_again)


def image(number: int) -> Pixels:
    """One of many different images."""
    return np.random.default_rng(number).integers(0, 256, (1, 32, 32, 3), np.uint8)


def expected(pixels: Pixels) -> Descriptors:
    """The descriptor that each image gets alone."""
    return np.stack([describe_pixels(one) for one in pixels])


@pytest.mark.parametrize("count", [1, 2, 5])
async def test_batches_that_fail_together_fail_as_one(count: int) -> None:
    """The caller learns what is wrong, not into how many batches its inputs were cut."""
    client: Any = BusyClient()
    describer = TritonDescriber(client, VERSION, max_batch_size=2)

    with pytest.raises(Overloaded, match="queue is full"):
        await describer.describe(np.zeros((count, 32, 32, 3), np.uint8))


@pytest.mark.parametrize("shared_memory", [True, False])
async def test_answer_to_another_request_is_refused(place: Place, shared_memory: bool) -> None:
    """Triton gave up a process when no caller was left to be told, but its late answer is recognised."""
    async with await TritonDescriber.open(place.client, VERSION.model, shared_memory=shared_memory) as describer:
        place.triton.may_answer.clear()
        leaving = [asyncio.create_task(describer.describe(image(number))) for number in (0, 1)]
        await place.until(lambda: len(place.triton.asked) == 2)
        for one in leaving:
            one.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        await place.until(lambda: place.triton.left == 2)
        place.triton.may_answer.set()

        for number in (2, 3):
            with pytest.raises(TritonUnavailable, match="answered another request"):
                await describer.describe(image(number))
        assert len(place.started_again) == 2

        place.triton.late.clear()
        np.testing.assert_allclose((await describer.describe(image(3))).descriptors, expected(image(3)), atol=1e-6)


@pytest.mark.parametrize("others", [[0, 2, 1], [0, 1], [0, 1, 2, 3], []])
async def test_whole_batch_is_compared(place: Place, others: list[int]) -> None:
    """Images in another order or of another number belong to another request."""
    pixels = np.concatenate([image(number) for number in range(3)])
    late = [image(number) for number in others] or [pixels[:0]]
    async with await TritonDescriber.open(place.client, VERSION.model) as describer:
        place.triton.late.append(np.concatenate(late))
        with pytest.raises(TritonUnavailable, match="answered another request"):
            await describer.describe(pixels)
        place.triton.late.clear()

        np.testing.assert_allclose((await describer.describe(pixels)).descriptors, expected(pixels), atol=1e-6)


async def test_model_that_declares_no_checksum_is_asked_for_none(place: Place) -> None:
    """It may be another maker's, or older than checksums. Triton would refuse a request for one."""
    place.triton.declares = False
    async with await TritonDescriber.open(place.client, VERSION.model) as describer:
        answer = (await describer.describe(image(0))).descriptors

    np.testing.assert_allclose(answer, expected(image(0)), atol=1e-6)
    assert [[output.name for output in request.outputs] for request in place.triton.asked] == [["descriptor"]]


async def test_registration_that_failed_is_tried_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A restarted Triton refuses at first: pixels go in requests until it takes the memory again."""
    monkeypatch.setattr(describers, "_REGISTER_AGAIN_S", 0.001, raising=False)
    async with await TritonDescriber.open(place.client, VERSION.model, shared_memory=True) as describer:
        place.triton.regions.clear()
        place.triton.refuses = 3
        np.testing.assert_allclose((await describer.describe(image(0))).descriptors, expected(image(0)), atol=1e-6)
        await place.until(lambda: describer.uses_shared_memory)

        np.testing.assert_allclose((await describer.describe(image(1))).descriptors, expected(image(1)), atol=1e-6)
        assert not place.triton.asked[-1].raw_input_contents
        assert place.triton.refuses == 0


async def test_registration_is_not_tried_with_each_request(place: Place) -> None:
    """While Triton refuses the memory, requests go on, and only one after each pause offers it again."""
    async with await TritonDescriber.open(place.client, VERSION.model, shared_memory=True) as describer:
        place.triton.regions.clear()
        place.triton.refuses = 100
        for number in range(20):
            await describer.describe(image(number))

        assert not describer.uses_shared_memory
        assert place.triton.refuses >= 98
