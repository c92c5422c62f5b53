"""Requests that are no messages: gRPC would answer them with UNKNOWN and a traceback in the log."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from pspsearch.errors import InvalidRequest

Handlers = Mapping[str, "grpc.RpcMethodHandler[Any, Any]"]


@dataclass(frozen=True, slots=True)
class Malformed:
    """Stands where the request would."""

    reason: str

    def error(self) -> InvalidRequest:
        """To be raised."""
        return InvalidRequest(f"the request is no message of its kind: {self.reason}")


class Tolerant:
    """Takes services as a server does, and adds them to one so that what cannot be read reaches them as Malformed."""

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, _: object) -> None:
        """Generated code adds everything a second time, by name: see below."""

    def add_registered_method_handlers(self, service: str, handlers: Handlers) -> None:
        """A service's methods."""
        tolerant = {name: _tolerant(handler) for name, handler in handlers.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, tolerant),))
        self._server.add_registered_method_handlers(service, tolerant)


def _tolerant(handler: "grpc.RpcMethodHandler[Any, Any]") -> "grpc.RpcMethodHandler[Any, Any]":
    read = cast("Callable[[bytes], object]", handler.request_deserializer)

    def try_to_read(content: bytes) -> object:
        try:
            return read(content)
        except DecodeError as error:
            return Malformed(str(error))

    return cast(Any, handler)._replace(request_deserializer=try_to_read)  # it is a named tuple
