"""Turns the API's errors back into the classes that the server raised."""

from collections.abc import Iterable
from typing import cast

import grpc
from google.rpc import code_pb2, error_details_pb2, status_pb2

from pspsearch import errors
from pspsearch.errors import BadFilter, PspsearchError, RetryLater

_DETAILS = "grpc-status-details-bin"


class ServerUnavailable(RetryLater):
    """The server cannot be reached, or went away before it answered."""


class ServerFailed(PspsearchError):
    """The server failed and does not say why. Its log does, under `request_id` if there is one."""


_BY_REASON = {
    name.lower(): value
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, PspsearchError)
}
_BY_CODE: dict[int, type[PspsearchError]] = {
    code_pb2.INVALID_ARGUMENT: errors.InvalidRequest,
    code_pb2.UNAUTHENTICATED: errors.Unauthenticated,
    code_pb2.PERMISSION_DENIED: errors.Forbidden,
    code_pb2.NOT_FOUND: errors.NotFound,
    code_pb2.ALREADY_EXISTS: errors.AlreadyExists,
    code_pb2.FAILED_PRECONDITION: errors.ModelMismatch,
    code_pb2.RESOURCE_EXHAUSTED: errors.Overloaded,
    code_pb2.UNAVAILABLE: ServerUnavailable,
    code_pb2.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    code_pb2.DATA_LOSS: errors.CatalogDamaged,
}


def status_error(status: status_pb2.Status) -> PspsearchError | None:
    """The error that a status describes; None for OK."""
    if status.code == code_pb2.OK:
        return None
    reason, position, request_id = "", 0, ""
    for detail in status.details:
        info, request = error_details_pb2.ErrorInfo(), error_details_pb2.RequestInfo()
        if detail.Unpack(info):
            reason = info.reason.replace("_", "").lower()
            position = int(info.metadata.get("position", "0"))
        elif detail.Unpack(request):
            request_id = request.request_id
    kind = _BY_REASON.get(reason) or _BY_CODE.get(status.code, ServerFailed)
    error = BadFilter(status.message, position) if issubclass(kind, BadFilter) else kind(status.message)
    error.request_id = request_id
    return error


def call_error(failure: grpc.RpcError, address: str) -> PspsearchError:
    """The error that ended a call, with the server's message, or with our own if the server sent none."""
    status = _explanation(failure)
    if status is not None:
        return status_error(status) or ServerFailed(status.message)
    said = failure.details() or failure.code().name
    if _has_crossed(failure):
        return ServerUnavailable(f"the server at {address} ended the stream while it was written to")
    if _is_dropped(failure):
        return errors.Overloaded(f"the server at {address} has too many calls waiting to take this one up")
    if failure.code() is grpc.StatusCode.UNAVAILABLE:
        reason = said.rpartition(": ")[2].rstrip("]")
        return ServerUnavailable(f"the server at {address} cannot be reached: {reason}")
    if failure.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return errors.DeadlineExceeded(f"the server at {address} did not answer in time")
    if failure.code() is grpc.StatusCode.UNIMPLEMENTED:
        return ServerFailed(f"what answers at {address} is not a pspsearch server of this version: {said}")
    return _BY_CODE.get(failure.code().value[0], ServerFailed)(said)


def may_pass(failure: grpc.RpcError) -> bool:
    """Whether the same call may succeed later. It does not tell whether the call may be repeated without harm."""
    passing = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
    return failure.code() in passing or _has_crossed(failure)


def is_unexplained(failure: grpc.RpcError) -> bool:
    """Whether gRPC itself ended the call, not pspsearch."""
    return _explanation(failure) is None


def _has_crossed(failure: grpc.RpcError) -> bool:
    """Whether a write crossed with the server's status. grpc.aio then loses the server's message.

    See https://github.com/grpc/grpc/issues/36066.
    """
    return failure.code() is grpc.StatusCode.INTERNAL and failure.details() == "Internal error from Core"


def _is_dropped(failure: grpc.RpcError) -> bool:
    """Whether the server's gRPC ended the call before pspsearch saw it, because a thousand others already waited.

    A call that is cancelled here, or whose channel is closed, has other details or none.
    """
    return failure.code() is grpc.StatusCode.CANCELLED and failure.details() == "CANCELLED"


def _explanation(failure: grpc.RpcError) -> status_pb2.Status | None:
    # gRPC's types know only what its blocking API returns.
    metadata = cast("Iterable[tuple[str, str | bytes]]", failure.trailing_metadata() or ())
    for key, value in metadata:
        if key == _DETAILS and isinstance(value, bytes):
            return status_pb2.Status.FromString(value)
    return None
