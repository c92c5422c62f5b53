"""Describers that are opened when they are needed, and let go, over a real Triton."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from pspsearch.triton import describers
from pspsearch.triton.client import TritonClient
from pspsearch.triton.describers import Describers
from tests.e2e.conftest import SHIPPED


def regions() -> set[str]:
    """Through which pixels go."""
    return {path.name for path in Path("/dev/shm").glob("pspsearch-*-pixels")}


async def test_what_is_let_go_is_closed_when_its_last_calls_are_done(
    client: TritonClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who still has it can use it; who asks again gets another one."""
    monkeypatch.setattr(describers, "_LAST_CALL_S", 0.5)
    others = regions()
    async with Describers(client) as opened:
        first = await opened.open(SHIPPED, None)
        assert await opened.open(SHIPPED, first.version.version) is first
        assert len(regions() - others) == 1
        shape = first.version.contract.input
        pixels = np.zeros((2, shape.height_px, shape.width_px, 3), np.uint8)
        expected = await first.describe(pixels)

        await opened.release(first.version)
        await opened.release(first.version)

        assert first.uses_shared_memory
        assert np.array_equal(await first.describe(pixels), expected)
        second = await opened.open(SHIPPED, None)
        assert second is not first
        assert len(regions() - others) == 2
        async with asyncio.timeout(10):
            while len(regions() - others) > 1:
                await asyncio.sleep(0.05)
        assert not first.uses_shared_memory
        assert len(regions() - others) == 1
        assert np.array_equal(await second.describe(pixels), expected)
        await opened.release(second.version)
    assert regions() == others
