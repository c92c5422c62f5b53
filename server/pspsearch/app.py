"""Puts the parts together: the one module that names concrete adapters."""

import contextlib
from collections.abc import AsyncGenerator

from pspsearch.config import BundledTritonSettings
from pspsearch.ports import Describer
from pspsearch.triton.client import TritonClient
from pspsearch.triton.describer import TritonDescriber
from pspsearch.triton.process import BundledTriton


@contextlib.asynccontextmanager
async def open_describer(
    triton: str | BundledTritonSettings, model: str, version: int | None = None
) -> AsyncGenerator[Describer]:
    """A describer of the Triton at an address, or of a bundled one that lives as long as the context.

    Version None takes the highest that is served.
    """
    async with contextlib.AsyncExitStack() as stack:
        if isinstance(triton, str):
            address = triton
        else:
            bundled = await stack.enter_async_context(BundledTriton(triton))
            bundled.require(model)
            address = bundled.address
        client = await stack.enter_async_context(TritonClient(address))
        yield await stack.enter_async_context(await TritonDescriber.open(client, model, version))


def bundled_triton(settings: BundledTritonSettings) -> BundledTriton:
    """The bundled Triton, to be entered as a context."""
    return BundledTriton(settings)
