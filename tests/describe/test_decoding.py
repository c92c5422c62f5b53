"""How images become pixels, and what happens to them when their caller leaves."""

import asyncio
import contextlib
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from pspsearch.call import Call
from pspsearch.describe import decoding
from pspsearch.describe.decoding import Decoder
from pspsearch.errors import InvalidRequest
from pspsearch.model.contract import InputShape
from pspsearch.query import ImageQuery
from tests.servers.rpc_client import TEMPLE
from tests.servers.rpc_server import LIMITS

PATIENCE_S = 10.0
SHAPE = InputShape(32, 32)


class Work:
    """Replaces decoding with work that waits until a test lets it go on."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.begun = asyncio.Queue[object]()
        self.ended = 0
        self._loop = asyncio.get_running_loop()

    def do(self, *_: object, **__: object) -> None:
        """Takes the place of an image's decoding."""
        self._loop.call_soon_threadsafe(self.begun.put_nowait, None)
        assert self.may_end.wait(PATIENCE_S)
        self.ended += 1


class Image(list[int]):
    """Stands for an image; unlike bytes, it can be weakly referenced."""


@pytest.fixture
def decoder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Decoder]:
    """A decoder with two threads."""
    monkeypatch.setattr(decoding.os, "cpu_count", lambda: 2)
    with contextlib.closing(Decoder(LIMITS)) as decoder:
        yield decoder


@pytest.fixture
async def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    """The work that the decoder does instead of decoding."""
    work = Work()
    monkeypatch.setattr(decoding, "decode_pixels", work.do)
    return work


async def test_an_image_that_cannot_be_read_fails_alone(decoder: Decoder) -> None:
    """Each image has its own result, in order."""
    good, bad, again = await decoder.decode([*map(ImageQuery, (TEMPLE, TEMPLE[:500], TEMPLE))], SHAPE, Call())

    assert isinstance(bad, InvalidRequest)
    assert isinstance(good, np.ndarray)
    assert isinstance(again, np.ndarray)
    np.testing.assert_array_equal(good, again)


async def test_images_that_are_being_decoded_are_waited_for(decoder: Decoder, work: Work) -> None:
    """However often their caller is cancelled, these are waited for.

    The others are dropped and their memory is freed.
    """
    first: Any = Image()
    waiting: Any = Image()
    watched = weakref.ref(waiting)
    images = [*map(ImageQuery, (first, first, waiting))]
    call = asyncio.create_task(decoder.decode(images, SHAPE, Call()))
    for _ in range(2):
        await asyncio.wait_for(work.begun.get(), PATIENCE_S)
    images.clear()
    del waiting
    assert watched() is not None

    for _ in range(10):
        call.cancel()
        await asyncio.sleep(0)
    assert watched() is None
    assert not call.done()

    work.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert work.ended == 2
