"""The collection `sample`, over fakes: what it lacks is put in while the server runs."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import pytest

from pspsearch.app.sample import filling_sample, read_gallery
from pspsearch.call import Call
from pspsearch.domain import CollectionSettings
from pspsearch.errors import BrokenModel, TritonUnavailable
from pspsearch.ingest.request import ItemInput
from tests.fakes.describer import ColourDescriber
from tests.fakes.describer import version as model_version
from tests.servers.rollout_place import Place
from tests.servers.rpc_client import open_api
from tests.servers.rpc_server import Parts

GALLERY = 360


@pytest.fixture
async def parts() -> AsyncIterator[Parts]:
    """The parts of a server without a gallery."""
    async with open_api() as api:
        yield api.server


@contextlib.asynccontextmanager
async def filling(parts: Parts) -> AsyncGenerator[None]:
    """Fills the collection as the server does."""
    async with filling_sample(parts.collections, parts.catalog, parts.ingester, "colours"):
        yield


def count(parts: Parts) -> int:
    """How many pictures searches can find."""
    return parts.collections.get("sample").index.state.rows


async def until_logged(caplog: pytest.LogCaptureFixture, words: str) -> None:
    """Waits until the filling has logged how it ended."""
    async with asyncio.timeout(60):
        while words not in caplog.text:
            await asyncio.sleep(0.01)


async def test_first_things_are_there_at_once_and_the_rest_comes_beside(
    parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    """README.md's first search, for `ball-03/6`, works at once; the log tells when all pictures are there."""
    caplog.set_level(logging.INFO, "pspsearch.app.sample")
    async with filling(parts):
        at_once = count(parts)
        ball = await parts.catalog.items(parts.collections.get("sample").collection.key, ["ball-03/6"])
        await until_logged(caplog, "the collection sample is complete: 360 pictures put in")

        assert at_once == 24
        assert list(ball) == ["ball-03/6"]
        assert count(parts) == GALLERY


async def test_stopped_in_the_middle_it_is_completed_at_the_next_start(
    parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    """Only missing pictures are put in: what somebody changed stays changed."""
    caplog.set_level(logging.INFO, "pspsearch.app.sample")
    async with filling(parts):
        parts.describer.entered.clear()
        parts.describer.may_answer.clear()
        await parts.describer.entered.wait()
    stopped = count(parts)
    parts.describer.may_answer.set()
    changed = ItemInput("ball-01/1", None, '{"mine":true}')
    await parts.ingester.upsert("sample", [changed], Call())

    async with filling(parts):
        await until_logged(caplog, f"the collection sample is complete: {GALLERY - stopped} pictures put in")

    assert 24 <= stopped < GALLERY
    assert count(parts) == GALLERY
    found = await parts.catalog.items(parts.collections.get("sample").collection.key, ["ball-01/1"])
    assert found["ball-01/1"].attributes == changed.attributes


@pytest.mark.parametrize("when", ["before", "beside"])
async def test_failure_is_a_sentence_and_ends_nothing(
    parts: Parts, caplog: pytest.LogCaptureFixture, when: str
) -> None:
    """This holds whether the first batch fails or a later one."""
    failure = BrokenModel("the model is ill")
    if when == "before":
        parts.describer.failure = failure
    async with filling(parts):
        parts.describer.failure = failure
        await until_logged(caplog, "the collection sample stays incomplete until the next start: the model is ill")

        assert count(parts) < GALLERY
    assert "Traceback" not in caplog.text


async def test_trouble_that_passes_is_waited_out(parts: Parts, caplog: pytest.LogCaptureFixture) -> None:
    """Callers may have filled the model's queue, or Triton may be starting again."""
    caplog.set_level(logging.INFO, "pspsearch.app.sample")
    parts.describer.failure = TritonUnavailable("Triton is away")
    async with filling(parts):
        await until_logged(caplog, "the collection sample waits: Triton is away")
        parts.describer.failure = None
        await until_logged(caplog, f"the collection sample is complete: {GALLERY} pictures put in")

    assert count(parts) == GALLERY


async def test_what_cannot_be_opened_is_left_alone_and_the_log_says_what_to_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The sample belongs to another model version; the server starts all the same."""
    place = Place(tmp_path)
    async with place.open() as before:
        await before.server.collections.create("sample", CollectionSettings("colours"))
    place.versions[1] = ColourDescriber(model_version(1))

    async with place.open() as after, filling(after.server):
        assert after.server.collections.all() == []
    assert "the collection sample cannot be filled: colours/1 is not what it was" in caplog.text
    assert "run `pspsearch collections delete sample --yes` and start again" in caplog.text


def test_gallery_is_read_in_order() -> None:
    """Thing by thing and view by view, with the attributes that filters and grouping work on."""
    gallery = read_gallery()

    assert len({one.id for one in gallery}) == len(gallery) == GALLERY
    assert [one.id for one in gallery[:7]] == [*(f"ball-01/{view}" for view in range(1, 7)), "ball-02/1"]
    assert '"thing":"ball-01"' in (gallery[0].attributes or "")
