"""Versions that are opened when they are needed, and closed later, over a real Triton."""

import asyncio
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from pspsearch.errors import ModelMismatch
from pspsearch.model.in_use import VersionsInUse
from pspsearch.triton import versions as describers
from pspsearch.triton.client import TritonClient
from pspsearch.triton.describer import TritonDescriber
from pspsearch.triton.owned_name import SHARED_MEMORY
from pspsearch.triton.versions import Versions
from tests.e2e.conftest import SHIPPED


def has_region(describer: TritonDescriber) -> bool:
    """Whether its pixels go through shared memory."""
    owned_name = describer._owned_name
    return owned_name is not None and (SHARED_MEMORY / f"{owned_name.prefix}-pixels").exists()


async def test_model_that_is_not_in_the_repository_is_a_sentence(client: TritonClient, repository: Path) -> None:
    """The caller mistyped its name."""
    async with Versions(client, VersionsInUse(repository)) as opened:
        with pytest.raises(ModelMismatch, match=r"^the model repository has no model nosuch$"):
            await opened.look("nosuch")
        assert [one.reason for one in await opened.look(SHIPPED)] == [""]


async def test_model_whose_folder_is_gone_is_told_while_it_is_in_use(client: TritonClient, tmp_path: Path) -> None:
    """It answers from memory, and nothing is loaded until the folder is put back."""
    async with Versions(client, VersionsInUse(tmp_path)) as opened:
        with pytest.raises(ModelMismatch):
            await opened.look(SHIPPED)
        await opened.open(SHIPPED, 1)
        (version,) = await opened.look(SHIPPED)

    assert version.reason == f"{tmp_path / SHIPPED / '1'} is gone, and is in use: put it back"


async def test_what_is_let_go_is_closed_when_its_last_calls_are_done(
    client: TritonClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller that still has it can use it; the next caller gets another one."""
    monkeypatch.setattr(describers, "_LAST_CALL_S", 0.5)
    async with Versions(client, VersionsInUse()) as opened:
        first = await opened.open(SHIPPED, None)
        assert await opened.open(SHIPPED, first.version.version) is first
        assert has_region(first)
        shape = first.version.contract.shape
        pixels = np.zeros((2, shape.height_px, shape.width_px, 3), np.uint8)
        expected = (await first.describe(pixels)).descriptors

        await opened.release(first.version)
        await opened.release(first.version)

        assert first.uses_shared_memory
        assert np.array_equal((await first.describe(pixels)).descriptors, expected)
        second = await opened.open(SHIPPED, None)
        assert second is not first
        assert has_region(first)
        assert has_region(second)
        async with asyncio.timeout(10):
            while has_region(first):
                await asyncio.sleep(0.05)
        assert not first.uses_shared_memory
        assert has_region(second)
        assert np.array_equal((await second.describe(pixels)).descriptors, expected)
        await opened.release(second.version)
    assert not has_region(second)


async def test_what_was_changed_is_not_asked_any_more(client: TritonClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Triton of somebody else's may load it under its old number, and its answers are then of another space."""
    async with Versions(client, VersionsInUse()) as opened:
        describer = await opened.open(SHIPPED, None)
        shape = describer.version.contract.shape
        pixels = np.zeros((1, shape.height_px, shape.width_px, 3), np.uint8)
        expected = (await describer.describe(pixels)).descriptors
        another = replace(describer.version.contract, space="ab" * 32)

        with monkeypatch.context() as patched:
            patched.setattr(describers, "read_contract", Mock(return_value=another))
            (offered,) = await opened.look(SHIPPED)

        assert "has been changed" in offered.reason
        with pytest.raises(ModelMismatch, match="has been changed since the server began to use it"):
            await describer.describe(pixels)
        (offered,) = await opened.look(SHIPPED)
        assert offered.reason == ""
        assert np.array_equal((await describer.describe(pixels)).descriptors, expected)
