"""A real Triton for the tests, with the shipped model, and photographs to ask it about."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from pspsearch.config import BundledTritonSettings
from pspsearch.domain import Pixels
from pspsearch.model.contract import InputShape
from pspsearch.model.repository import default_repository
from pspsearch.triton.client import TritonClient
from pspsearch.triton.describer import TritonDescriber
from pspsearch.triton.process import BundledTriton
from tests.pictures import load_photo

SHIPPED = "pspnet"


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the shipped repository, which the tests may add to."""
    return Path(shutil.copytree(default_repository(), tmp_path_factory.mktemp("models") / "model_repository"))


@pytest.fixture(scope="session")
async def triton(repository: Path) -> AsyncIterator[BundledTriton]:
    """One Triton for all tests that leave it unchanged."""
    async with BundledTriton(BundledTritonSettings(repository)) as triton:
        yield triton


@pytest.fixture(scope="session")
async def client(triton: BundledTriton) -> AsyncIterator[TritonClient]:
    """A channel to the shared Triton."""
    async with TritonClient(triton.address) as client:
        yield client


@pytest.fixture(params=[True, False], ids=["shared memory", "in the request"])
async def describer(client: TritonClient, request: pytest.FixtureRequest) -> AsyncIterator[TritonDescriber]:
    """The shipped model, over each way that pixels can take."""
    async with await TritonDescriber.open(client, SHIPPED, shared_memory=request.param) as describer:
        assert describer.uses_shared_memory is request.param
        yield describer


@pytest.fixture(scope="session")
def photographs() -> list[Pixels]:
    """Two real photographs, 427 x 640."""
    return [np.asarray(load_photo(number=number)) for number in (0, 1)]


def crops(photographs: list[Pixels], shape: InputShape, count: int) -> list[Pixels]:
    """Returns different windows of the model's size, spread over the photographs."""
    windows: list[Pixels] = []
    for number in range(count):
        photograph = photographs[number % len(photographs)]
        top = (37 * number) % (photograph.shape[0] - shape.height_px)
        left = (91 * number) % (photograph.shape[1] - shape.width_px)
        windows.append(photograph[top : top + shape.height_px, left : left + shape.width_px])
    return windows
