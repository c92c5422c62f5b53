"""Checks whether a Triton serves the model, or the bundled one could. It starts nothing."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

from pspsearch.config import TritonSettings
from pspsearch.errors import PspsearchError
from pspsearch.findings import Finding, Grade
from pspsearch.model.config import check_config
from pspsearch.model.repository import check_repository, default_repository
from pspsearch.triton.bundle import Bundle
from pspsearch.triton.client import TritonClient

_ANSWER_S = 5.0
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Linux has it
_LEAST_SHARED_BYTES = 128 << 20


async def examine_model(settings: TritonSettings) -> Finding:
    """Examines whether the named Triton serves the model, or the bundled one's repository has it undamaged."""
    model = settings.model
    try:
        if settings.triton:
            return await _examine_served(settings.triton, model)
        Bundle.find()
        root = Path(settings.repository) if settings.repository else default_repository()
        checked = await asyncio.to_thread(check_repository, root)
        if model in checked.broken:
            return Finding("model", Grade.BAD, str(checked.broken[model]))
        if model not in checked.sound:
            return Finding("model", Grade.BAD, f"{root} has no model {model}, but {', '.join(checked.sound)}")
        check_config(root / model)
    except PspsearchError as error:
        return Finding("model", Grade.BAD, str(error))
    return Finding("model", Grade.GOOD, f"{model} in {root} is what was published; the bundled Triton is there")


async def _examine_served(address: str, model: str) -> Finding:
    try:
        async with TritonClient(address) as client:
            await client.wait_until_live(_ANSWER_S)
            ready = [state for state in await client.index() if state.model == model and state.ready]
    except PspsearchError as error:
        return Finding("model", Grade.BAD, f"the Triton at {address} cannot be asked: {error}")
    if not ready:
        return Finding("model", Grade.BAD, f"the Triton at {address} does not serve {model}: load it there")
    return Finding("model", Grade.GOOD, f"{model} is served by the Triton at {address}")


def examine_shared_memory(settings: TritonSettings) -> Iterator[Finding]:
    """Examines whether there is enough shared memory for the bundled Triton; nothing if another Triton is named."""
    if settings.triton:
        return
    shared = shutil.disk_usage(_SHARED_MEMORY).free
    enough = shared >= _LEAST_SHARED_BYTES
    words = f"{shared >> 20:,} MiB free in {_SHARED_MEMORY}"
    advice = "" if enough else f": the bundled Triton wants {_LEAST_SHARED_BYTES >> 20} (docker run --shm-size)"
    yield Finding("shared memory", Grade.GOOD if enough else Grade.BAD, words + advice)
