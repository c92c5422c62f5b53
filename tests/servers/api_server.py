"""Serves the API from any object that has its methods in snake case, for servers that tests make up."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2

from pspsearch.v1 import collection_service_pb2, item_service_pb2, search_service_pb2

_SERVICES = [
    search_service_pb2.DESCRIPTOR.services_by_name["SearchService"],
    item_service_pb2.DESCRIPTOR.services_by_name["ItemService"],
    collection_service_pb2.DESCRIPTOR.services_by_name["CollectionService"],
]
MAX_MESSAGE_BYTES = 1 << 20


class ApiServer:
    """A context manager. A method that the object lacks is UNIMPLEMENTED. Methods run in threads."""

    def __init__(self, methods: object) -> None:
        options = (("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),)
        self._server = grpc.server(ThreadPoolExecutor(8), options=options)
        for service in _SERVICES:
            handlers = {
                method.name: _handler(method, getattr(methods, _snake(method.name)))
                for method in service.methods
                if hasattr(methods, _snake(method.name))
            }
            handler = grpc.method_handlers_generic_handler(service.full_name, handlers)
            self._server.add_generic_rpc_handlers((handler,))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop(None).wait()


def error_status(code: grpc.StatusCode, message: str, *details: Message) -> status_pb2.Status:
    """Makes a status with details."""
    packed: list[AnyMessage] = []
    for detail in details:
        packed.append(AnyMessage())
        packed[-1].Pack(detail)
    return status_pb2.Status(code=code.value[0], message=message, details=packed)


def reason(name: str, **metadata: str) -> error_details_pb2.ErrorInfo:
    """The detail that tells errors with the same code apart."""
    return error_details_pb2.ErrorInfo(reason=name, domain="pspsearch", metadata=metadata)


def abort(context: grpc.ServicerContext, status: status_pb2.Status) -> None:
    """Ends the call with the status and its details."""
    if status.details:
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
    context.abort(code, status.message)


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()


def _handler(
    method: MethodDescriptor, behaviour: Callable[[Any, grpc.ServicerContext], Any]
) -> "grpc.RpcMethodHandler[Any, Any]":
    request, response = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
    if not method.client_streaming:
        return grpc.unary_unary_rpc_method_handler(behaviour, request.FromString, response.SerializeToString)

    def stream(requests: Iterator[Message], context: grpc.ServicerContext) -> Iterator[Message]:
        yield from behaviour(requests, context)

    return grpc.stream_stream_rpc_method_handler(stream, request.FromString, response.SerializeToString)
