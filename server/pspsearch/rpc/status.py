"""Turns errors into statuses: the one table of codes, and the details of each status."""

import math
import re

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from pspsearch.errors import (
    AlreadyExists,
    BadFilter,
    CatalogDamaged,
    DeadlineExceeded,
    Forbidden,
    IndexBehind,
    InvalidRequest,
    MemoryFull,
    ModelMismatch,
    NoPicture,
    NotFound,
    NotServing,
    OperatorError,
    Overloaded,
    PspsearchError,
    RateExceeded,
    RetryLater,
    RolloutRefused,
    StorageFull,
    TritonUnavailable,
    Unauthenticated,
)
from pspsearch.logs import one_line

DETAILS = "grpc-status-details-bin"
"""The trailing metadata that carries the whole status."""

DOMAIN = "pspsearch"

CODES: dict[type[PspsearchError], grpc.StatusCode] = {
    InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    Forbidden: grpc.StatusCode.PERMISSION_DENIED,
    NotFound: grpc.StatusCode.NOT_FOUND,
    AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    ModelMismatch: grpc.StatusCode.FAILED_PRECONDITION,
    NoPicture: grpc.StatusCode.FAILED_PRECONDITION,
    RolloutRefused: grpc.StatusCode.FAILED_PRECONDITION,
    RetryLater: grpc.StatusCode.UNAVAILABLE,
    NotServing: grpc.StatusCode.UNAVAILABLE,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    MemoryFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    StorageFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    IndexBehind: grpc.StatusCode.RESOURCE_EXHAUSTED,
    TritonUnavailable: grpc.StatusCode.UNAVAILABLE,
    DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    OperatorError: grpc.StatusCode.INTERNAL,
    CatalogDamaged: grpc.StatusCode.DATA_LOSS,
}
"""The code of each error class. A class that is not here has the code of its nearest ancestor."""

_RETRY_MS: dict[type[RetryLater], int] = {
    NotServing: 1000,
    Overloaded: 100,
    MemoryFull: 5000,
    StorageFull: 5000,
    IndexBehind: 5000,
    DeadlineExceeded: 0,
}
_USUAL_RETRY_MS = 500
_LONGEST_RETRY_S = 86_400.0
"""The longest pause that a caller is told. A very low rate could give one that no Duration can hold."""

_MAX_MESSAGE_BYTES = 512
"""The longest message. It is sent three times, once percent-encoded, in trailers that clients limit to 8 KiB."""


def code_of(error: Exception) -> grpc.StatusCode:
    """The status code for an error; INTERNAL for one that is not pspsearch's own."""
    return next((CODES[kind] for kind in type(error).__mro__ if kind in CODES), grpc.StatusCode.INTERNAL)


def is_callers(error: Exception) -> bool:
    """Whether the caller can do something about the error, and so is told all of it."""
    return isinstance(error, PspsearchError) and not isinstance(error, OperatorError)


def make_status(error: Exception, request_id: str) -> status_pb2.Status:
    """The status of an error, with details. A caller who can do nothing about it is told only the request id."""
    details: list[Message] = [error_details_pb2.RequestInfo(request_id=request_id)]
    if isinstance(error, PspsearchError):
        details.append(_info(error))
    if isinstance(error, BadFilter):
        violation = error_details_pb2.BadRequest.FieldViolation(field="filter", description=_cut(str(error)))
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if isinstance(error, RetryLater):
        details.append(_retry(error))
    hidden = f"the server failed, and its log says why under request {request_id}"
    message = _cut(str(error)) if is_callers(error) else hidden
    return status_pb2.Status(code=code_of(error).value[0], message=message, details=map(_pack, details))


def _info(error: PspsearchError) -> error_details_pb2.ErrorInfo:
    """The error's class as a reason, such as `UNKNOWN_FORMAT` for `UnknownFormat`."""
    reason = re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).upper()
    metadata = {"position": str(error.position)} if isinstance(error, BadFilter) else None
    return error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata)


def _retry(error: RetryLater) -> error_details_pb2.RetryInfo:
    delay = Duration()
    if isinstance(error, RateExceeded):
        delay.FromMilliseconds(math.ceil(1000 * min(error.wait_s, _LONGEST_RETRY_S)))
    else:
        delay.FromMilliseconds(_RETRY_MS.get(type(error), _USUAL_RETRY_MS))
    return error_details_pb2.RetryInfo(retry_delay=delay)


def _cut(message: str) -> str:
    """Makes a message one short line: it may repeat what a caller sent, and people read it in logs and on screens."""
    message = one_line(message)
    encoded = message.encode(errors="replace")
    if len(encoded) <= _MAX_MESSAGE_BYTES:
        return message
    return encoded[: _MAX_MESSAGE_BYTES - 3].decode(errors="ignore") + "..."


def _pack(detail: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(detail)
    return packed
