"""The entrance to every method. The caller is checked before a request is received, its bounds before it is parsed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from pspsearch.callers.budget import Parked
from pspsearch.callers.rights import RULES
from pspsearch.config import REQUEST_COPIES
from pspsearch.errors import InvalidRequest
from pspsearch.rpc.admission import Admission, Visitor
from pspsearch.rpc.arrival import receive
from pspsearch.rpc.context import Context
from pspsearch.rpc.wire import NO_MESSAGE, Shape

_Behaviour = Callable[[Any, Visitor], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class _Method:
    """One method and the requests that it takes."""

    name: str
    kind: type[Message]
    shape: Shape
    behaviour: _Behaviour
    turn: asyncio.Lock
    """Held while a request with very many fields is checked, so that only one is at a time."""

    async def read(self, content: bytes, visitor: Visitor) -> Message:
        """Parses a request. Raises InvalidRequest if it exceeds a bound, which is found before parsing."""
        most_bytes = visitor.access.max_request_bytes
        if most_bytes is not None and len(content) > most_bytes:
            raise InvalidRequest(f"a request of {visitor.access.holder} may have {most_bytes:,} bytes")
        check = self.shape.check(content)
        for _ in check:
            async with self.turn:
                for _ in check:
                    await asyncio.sleep(0)
        try:
            return self.kind.FromString(content)
        except DecodeError as error:
            raise InvalidRequest(f"{NO_MESSAGE}: {error}") from None


class Door:
    """Registers every method with gRPC as one that takes a stream.

    gRPC calls only such a method before its request has arrived.
    """

    def __init__(self, admission: Admission, max_message_bytes: int) -> None:
        self._admission = admission
        self._max_message_bytes = max_message_bytes
        self._turn = asyncio.Lock()

    def open(self, service: ServiceDescriptor, servicer: object) -> grpc.GenericRpcHandler:
        """The handler of those methods of a service that the servicer has.

        Each is called with a visitor and a request, or with a visitor and an iterator of requests.
        """
        handlers = {
            method.name: self._handler(method, getattr(servicer, method.name))
            for method in service.methods
            if hasattr(servicer, method.name)
        }
        return grpc.method_handlers_generic_handler(service.full_name, handlers)

    def _handler(self, method: MethodDescriptor, behaviour: _Behaviour) -> "grpc.RpcMethodHandler[Any, Any]":
        one = _Method(method.name, GetMessageClass(method.input_type), Shape(method.input_type), behaviour, self._turn)

        async def stream(_: object, context: Context) -> None:
            async with self._admission.enter(one.name, context, is_stream=True) as visitor:
                await one.behaviour(_receive_all(one, visitor), visitor)

        async def single(_: object, context: Context) -> Message | None:
            async with self._admission.enter(one.name, context, is_stream=False) as visitor:
                return await self._answer(one, visitor)

        if method.client_streaming:
            return grpc.stream_stream_rpc_method_handler(stream, None, None)
        if method.server_streaming:
            return grpc.stream_stream_rpc_method_handler(single, None, None)
        write = GetMessageClass(method.output_type).SerializeToString
        return grpc.stream_unary_rpc_method_handler(single, None, write)

    async def _answer(self, method: _Method, visitor: Visitor) -> Message | None:
        """The answer, or None if the method has already sent it as a stream."""
        rule = RULES[method.name]
        if rule is None:
            return await method.behaviour(method.kind(), visitor)
        content = await receive(visitor.context, visitor.quota.bytes, self._max_message_bytes)
        with visitor.quota.bytes.hold(REQUEST_COPIES * len(content)):
            visitor.request = request = await method.read(content, visitor)
            del content
            visitor.access.check(rule.right, rule.collection(request))
            return await method.behaviour(request, visitor)


async def _receive_all(method: _Method, visitor: Visitor) -> AsyncIterator[tuple[Message, Parked]]:
    """The requests of a stream, each with the bytes that it holds. Raises InvalidRequest at a bad one."""
    while (content := await visitor.context.read()) is not grpc.aio.EOF:
        with await visitor.quota.bytes.park(REQUEST_COPIES * len(content)) as parked:
            request = await method.read(content, visitor)
            del content
            yield request, parked
            del request
