"""Services that anyone may call: health and reflection. Their requests are small, and few may wait."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, cast

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from pspsearch.callers.budget import Budget
from pspsearch.callers.quota import Quota
from pspsearch.errors import DeadlineExceeded, InvalidRequest, PspsearchError
from pspsearch.rpc.abort import abort
from pspsearch.rpc.arrival import receive
from pspsearch.rpc.context import Context
from pspsearch.rpc.status import code_of
from pspsearch.rpc.wire import NO_MESSAGE

_MOST_BYTES = 4096
"""The largest request: the name of a service or a file."""
_AT_ONCE = 8
"""How many requests may be late, and how many streams of requests may be open."""
_IDLE_S = 60.0
"""A stream of requests that is idle for so long, or does not take an answer, is ended to make room for others."""
_WATCHES = 1000
"""How many health watches may be open; each takes about 22 KB."""

_Read = Callable[[bytes], object]


class Public:
    """Stands in for a server when services are added, and adds them to the real one within these bounds."""

    def __init__(self, server: grpc.aio.Server, max_message_bytes: int) -> None:
        self._server = server
        self._max_message_bytes = max_message_bytes
        budget = Budget(2 * _AT_ONCE * max_message_bytes)
        self._quota, self._watches = (Quota("the crowd of strangers", most, budget) for most in (_AT_ONCE, _WATCHES))

    def add_generic_rpc_handlers(self, _: object) -> None:
        """Does nothing: generated code also calls `add_registered_method_handlers` for the same methods."""

    def add_registered_method_handlers(
        self, service: str, handlers: Mapping[str, "grpc.RpcMethodHandler[Any, Any]"]
    ) -> None:
        """Adds a service's methods."""
        bounded = {name: self._bound(handler) for name, handler in handlers.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, bounded),))

    def _bound(self, given: "grpc.RpcMethodHandler[Any, Any]") -> "grpc.RpcMethodHandler[Any, Any]":
        handler: Any = given
        read, write = cast("_Read", handler.request_deserializer), handler.response_serializer

        async def unary(_: object, context: Context) -> object:
            return await handler.unary_unary(await self._read_one(read, context), context)

        async def answers(_: object, context: Context) -> None:
            request = await self._read_one(read, context)
            async with _refusing(context):
                with self._watches.stream():
                    async for answer in handler.unary_stream(request, context):
                        await context.write(answer)

        async def answer_next(context: Context) -> bool:
            content = await context.read()
            if content is grpc.aio.EOF:
                return False
            for answer in handler.stream_stream(iter((_read(content, read),)), context):
                await context.write(answer)
            return True

        async def exchange(_: object, context: Context) -> None:
            async with _refusing(context):
                with self._quota.stream():
                    while await _in_time(answer_next(context)):
                        pass

        if handler.unary_unary:
            return grpc.stream_unary_rpc_method_handler(unary, None, write)
        return grpc.stream_stream_rpc_method_handler(answers if handler.unary_stream else exchange, None, write)

    async def _read_one(self, read: _Read, context: Context) -> object:
        async with _refusing(context):
            return _read(await receive(context, self._quota.bytes, self._max_message_bytes), read)


async def _in_time(one: Awaitable[bool]) -> bool:
    try:
        async with asyncio.timeout(_IDLE_S):
            return await one
    except TimeoutError:
        raise DeadlineExceeded(f"no request came for {_IDLE_S:g} s, or no answer was taken") from None


def _read(content: bytes, read: _Read) -> object:
    if len(content) > _MOST_BYTES:
        raise InvalidRequest(f"the request has {len(content):,} bytes, and at most {_MOST_BYTES:,} are taken")
    try:
        return read(content)
    except DecodeError as error:
        raise InvalidRequest(f"{NO_MESSAGE}: {error}") from None


@contextlib.asynccontextmanager
async def _refusing(context: Context) -> AsyncGenerator[None]:
    """Answers the caller, if still there, with an error from the block."""
    try:
        yield
    except grpc.aio.InternalError as gone:
        raise asyncio.CancelledError from gone
    except PspsearchError as error:
        await abort(context, code_of(error), str(error))
