"""A Triton, named or bundled, and describers over it, for as long as somebody needs them."""

import contextlib
from collections.abc import AsyncGenerator, Callable

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
        client = await open_triton(stack, triton, model)
        yield await stack.enter_async_context(await TritonDescriber.open(client, model, version))


async def open_triton(
    stack: contextlib.AsyncExitStack,
    triton: str | BundledTritonSettings,
    model: str,
    objection: Callable[[str], str] = lambda _model: "",
) -> TritonClient:
    """A client of the Triton at an address, or of a bundled one; they close with the stack.

    The bundled one loads no model that there is an objection to. ModelLoadFailed where it was asked for the model and
    could not load it.
    """
    if isinstance(triton, str):
        return await stack.enter_async_context(TritonClient(triton))
    bundled = await stack.enter_async_context(BundledTriton(triton, objection))
    bundled.require(model)
    return await stack.enter_async_context(TritonClient(bundled.address, bundled.start_again))


def bundled_triton(settings: BundledTritonSettings) -> BundledTriton:
    """The bundled Triton, to be entered as a context."""
    return BundledTriton(settings)
