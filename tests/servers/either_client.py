"""Gives both clients one interface, so that one test checks both."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import Any

from pspsearch.client import AsyncClient, Client

EitherClient = Callable[..., Any]
"""Takes a method's name and its arguments. Awaiting it gives the result, as a list if the method is an iterator."""


@contextlib.asynccontextmanager
async def connected(client: Client | AsyncClient) -> AsyncGenerator[EitherClient]:
    """A client that is closed at the end."""
    try:
        yield either(client)
    finally:
        if isinstance(client, AsyncClient):
            await client.close()
        else:
            client.close()


def either(client: Client | AsyncClient) -> EitherClient:
    """Calls either client. The blocking client works in a thread."""

    async def call(name: str, *arguments: Any, **options: Any) -> Any:
        if isinstance(client, Client):
            return await asyncio.to_thread(lambda: _finish(getattr(client, name)(*arguments, **options)))
        result = getattr(client, name)(*arguments, **options)
        if isinstance(result, AsyncIterator):
            return [one async for one in result]  # pyright: ignore[reportUnknownVariableType] - of any kind
        return await result

    return call


def _finish(result: Any) -> Any:
    return list(result) if isinstance(result, Iterator) else result  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - of any kind
