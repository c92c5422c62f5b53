"""Opens a Triton, named or bundled, and describers that use it."""

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
    """Yields a describer of the Triton at an address, or of a bundled one that lives as long as the context.

    With `version` None, it takes the highest version that is served.
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
    """Returns a client of the Triton at an address, or of a bundled one; they close with the stack.

    The bundled one loads no model that `objection` names a reason against. Raises ModelLoadFailed if it could not load
    the model.
    """
    if isinstance(triton, str):
        return await stack.enter_async_context(TritonClient(triton))
    bundled = await stack.enter_async_context(BundledTriton(triton, objection))
    bundled.require(model)
    return await stack.enter_async_context(TritonClient(bundled.address, bundled.start_again))


def bundled_triton(settings: BundledTritonSettings) -> BundledTriton:
    """Returns the bundled Triton, which starts when it is entered as a context."""
    return BundledTriton(settings)
