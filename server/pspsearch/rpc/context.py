"""What gRPC tells about a call, and the caller that follows from it."""

from typing import Any

import grpc.aio

from pspsearch.callers.caller import Caller
from pspsearch.headers import AUTHORIZATION

Context = grpc.aio.ServicerContext[Any, Any]

_SCHEME = "Bearer "


def caller_of(context: Context) -> Caller:
    """Who calls, according to the connection and the headers."""
    peer = context.peer()
    return Caller(
        peer=peer,
        host=peer.rpartition(":")[0],
        token=header(context, AUTHORIZATION, _SCHEME),
        certificate=next(iter(context.peer_identities() or ()), b"").decode(errors="replace"),
    )


def header(context: Context, name: str, prefix: str = "") -> str:
    """The first header of that name that starts with the prefix, without the prefix; "" if there is none."""
    for key, value in context.invocation_metadata() or ():
        if key == name and isinstance(value, str) and value.startswith(prefix):
            return value.removeprefix(prefix)
    return ""
