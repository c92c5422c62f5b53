"""The model in the server's own process, beside the one that Triton runs: the same descriptors, to the bit."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pspsearch.client import Client, ItemInput, Region
from pspsearch.domain import Pixels, Urgency
from pspsearch.embedded.describer import EmbeddedDescriber
from pspsearch.embedded.network import Network
from pspsearch.embedded.versions import EmbeddedVersions
from pspsearch.embedded.workers import Workers
from pspsearch.errors import BadImage, DeadlineExceeded, ImageTooLarge, ModelLoadFailed, ModelMismatch, Overloaded
from pspsearch.images.pixels import ImageLimits
from pspsearch.triton.client import TritonClient
from pspsearch.triton.describer import TritonDescriber
from pspsearch.triton.process import BundledTriton
from pspsearch_build.publish import Flavour, Publication, publish
from tests.build.colour_network import write_colour_network
from tests.e2e.conftest import SHIPPED
from tests.pictures import encode, encode_turned, load_photo
from tests.servers.search_server import serve, why_refused

PICTURES = [encode(load_photo(number=number)) for number in (0, 1)]


@pytest.fixture
async def versions(repository: Path) -> AsyncIterator[EmbeddedVersions]:
    """Over the shipped repository."""
    versions = EmbeddedVersions(repository, ImageLimits())
    yield versions
    await versions.close()


@pytest.fixture
async def describer(versions: EmbeddedVersions) -> EmbeddedDescriber:
    """Of the shipped model."""
    return await versions.open(SHIPPED, None)


async def test_descriptors_are_those_of_triton_to_the_bit(
    describer: EmbeddedDescriber, client: TritonClient, photographs: list[Pixels]
) -> None:
    """One image alone goes through the same compiled network, so a collection may change the runtime at any time."""
    shape = describer.version.contract.shape
    pixels = np.stack([one[: shape.height_px, : shape.width_px] for one in photographs])
    async with await TritonDescriber.open(client, SHIPPED) as served:
        assert describer.version == served.version
        for one in pixels:
            ours, theirs = await describer.describe(one[None], cells=True), await served.describe(one[None], cells=True)
            np.testing.assert_array_equal(ours.descriptors, theirs.descriptors)
            assert ours.cells is not None
            assert theirs.cells is not None
            np.testing.assert_array_equal(ours.cells, theirs.cells)


async def test_many_at_once_are_each_their_own(describer: EmbeddedDescriber) -> None:
    """Whichever thread describes them, and whatever else is under way."""
    alone = [(await describer.describe([image])).descriptors[0] for image in PICTURES]

    together = await asyncio.gather(*(describer.describe(PICTURES) for _ in range(20)))

    for described in together:
        assert (described.descriptors * alone).sum(axis=1).min() > 0.9999
    assert alone[0] @ alone[1] < 0.95


async def test_a_deadline_and_a_caller_who_leaves_cost_nobody_else(describer: EmbeddedDescriber) -> None:
    """What no thread has begun with is dropped."""
    with pytest.raises(DeadlineExceeded):
        await describer.describe(PICTURES * 20, timeout_s=0.001)
    leaving = asyncio.create_task(describer.describe(PICTURES * 20))
    await asyncio.sleep(0)
    leaving.cancel()

    assert len((await describer.describe(PICTURES, timeout_s=10)).descriptors) == 2


async def test_more_than_may_wait_are_refused_at_once(describer: EmbeddedDescriber) -> None:
    """As by a Triton whose queue is full."""
    under_way = [asyncio.create_task(describer.describe(PICTURES * 64)) for _ in range(3)]
    ends = await asyncio.gather(*under_way, return_exceptions=True)

    refused = [end for end in ends if isinstance(end, Overloaded)]
    assert len(refused) == 1
    assert "the model's queue is full" in str(refused[0])
    assert len((await describer.describe(PICTURES)).descriptors) == 2


async def test_what_is_urgent_comes_first_and_is_not_refused_for_the_rest(describer: EmbeddedDescriber) -> None:
    """A search goes past a full queue of writes, which keeps a rollout out."""
    writing = asyncio.create_task(describer.describe(PICTURES * 128, urgency=Urgency.WRITE))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await describer.describe(PICTURES * 8, urgency=Urgency.ROLLOUT)

    assert len((await describer.describe(PICTURES)).descriptors) == 2
    assert not writing.done()
    assert len((await writing).descriptors) == 256


async def test_a_version_that_cannot_run_here_says_why(tmp_path: Path) -> None:
    """A plan wants a GPU; a network that does not keep its contract is not loaded."""
    onnx = write_colour_network(tmp_path / "network.onnx")
    (tmp_path / "models").mkdir()
    publish(Publication(onnx, tmp_path / "models", "colour", flavour=Flavour.ONNXRUNTIME))
    versions = EmbeddedVersions(tmp_path / "models", ImageLimits())
    found = (await versions.open("colour", 1)).version
    with pytest.raises(ModelLoadFailed, match="cannot be run as a network"):
        Network(tmp_path / "nothing.onnx", found.contract)
    other = write_colour_network(tmp_path / "other.onnx", dimension=256)
    with pytest.raises(ModelLoadFailed, match=r"has descriptor of .*256.*, and its contract promises \[1, 128\]"):
        Network(other, found.contract)
    (tmp_path / "models/colour/1/model.onnx").rename(tmp_path / "models/colour/1/model.plan")
    with pytest.raises(ModelMismatch):
        await versions.open("colour", 2)
    (offered,) = await versions.look("colour")
    assert "is not part of the version" in offered.reason or "model.onnx" in offered.reason
    await versions.close()


def test_a_server_without_triton(tmp_path: Path) -> None:
    """Items go in and are found, bad images fail alone, and the status says where the model runs."""
    with serve(tmp_path, "", "--runtime", "embedded") as server, Client(server.address) as client:
        given = client.upsert(
            [ItemInput("a", PICTURES[0]), ItemInput("x", PICTURES[0][:900]), ItemInput("b", PICTURES[1])]
        )

        assert [one.id for one in given if one.error] == ["x"]
        assert client.search(PICTURES[1]).hits[0].id == "b"
        assert client.search(PICTURES[0]).hits[0].score == pytest.approx(1, abs=2e-3)
        with pytest.raises(BadImage):
            client.search(PICTURES[0][:900])
        assert "server's process" in client.status().triton
    with (
        serve(tmp_path, "", "--runtime", "embedded", "--max-image-pixels", "1000") as server,
        Client(server.address) as client,
        pytest.raises(ImageTooLarge),
    ):
        client.search(PICTURES[0])


def test_a_box_is_the_same_part_in_both_runtimes(triton: BundledTriton, tmp_path: Path) -> None:
    """And it is described as a picture of that part alone would be."""
    both = Image.new("RGB", (1280, 427))
    for number in (0, 1):
        both.paste(load_photo(number=number), (640 * number, 0))
    regions = [Region(encode_turned(both, turn, "PNG"), (0.5, 0, 1, 1)) for turn in (1, 6)]
    rows: list[NDArray[np.float32]] = []
    for address, flags in ((triton.address, ()), ("", ("--runtime", "embedded"))):
        with serve(tmp_path / str(len(flags)), address, *flags) as server, Client(server.address) as client:
            client.upsert([ItemInput(f"{number}", encode(load_photo(number=number), "PNG")) for number in (0, 1)])
            assert client.search(regions[0], limit=1).hits[0].score == pytest.approx(1, abs=2e-3)
            batch = client.search_batch([*regions, PICTURES[0]], limit=1).results
            assert [[hit.id for hit in hits] for hits in batch if isinstance(hits, tuple)] == [["1"], ["1"], ["0"]]
            rows.append(client.describe(regions[0]).descriptor.values)

    np.testing.assert_array_equal(rows[0], rows[1])


def test_runtimes_that_contradict_are_refused(tmp_path: Path) -> None:
    """One sentence each, before anything is started."""
    assert "only one of them can run the model" in why_refused(tmp_path, "127.0.0.1:1", "--runtime", "embedded")
    assert "runtime must be triton or embedded" in why_refused(tmp_path, "", "--runtime", "cloud")


def test_threads_end_with_the_workers() -> None:
    """And leave nothing behind."""
    workers = Workers()
    threads = list(workers._threads)
    assert all(thread.is_alive() for thread in threads)

    workers.close()

    assert not any(thread.is_alive() for thread in threads)


async def test_a_version_is_opened_once(versions: EmbeddedVersions, describer: EmbeddedDescriber) -> None:
    """Whether it is asked for by its number or as the highest: another network would take its memory again."""
    assert await versions.open(SHIPPED, None) is describer
    assert await versions.open(SHIPPED, 1) is describer
    with pytest.raises(ModelMismatch, match=f"has no version 7 of {SHIPPED}"):
        await versions.open(SHIPPED, 7)


async def test_images_of_callers_who_left_make_room_at_once(describer: EmbeddedDescriber) -> None:
    """They neither wait nor are held, although their turn had not come."""
    leaving = [asyncio.create_task(describer.describe(PICTURES * 60)) for _ in range(2)]
    await asyncio.sleep(0.01)
    for task in leaving:
        task.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)

    assert not any(describer._workers._waiting)
    assert len((await describer.describe(PICTURES * 60)).descriptors) == 120
