"""Tells whether the server serves, once or continuously.

grpc_health's own asyncio servicer is not used. It forgets all watchers of a service when one of them leaves, and its
watches never end, so each would delay the server's shutdown for as long as that may take.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pspsearch.rpc.context import Context

_Response = health_pb2.HealthCheckResponse


class Health(health_pb2_grpc.HealthServicer):
    """Gives one answer for the whole server and each of its services, to any caller."""

    def __init__(self, services: Iterable[str]) -> None:
        self._services = {"", *services}
        self._serving = False
        self._ended = False
        self._changed = asyncio.Event()
        """Set at the next change, and then replaced."""

    def set_serving(self) -> None:
        """Reports from now on that the server serves."""
        self._change(serving=True)

    def end(self) -> None:
        """Reports for good that the server does not serve; watches get this answer and end."""
        self._ended = True
        self._change(serving=False)

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Context) -> _Response:  # noqa: N802, D102
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no service {request.service[:80]!r}")
        return self._answer(request.service)

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Context) -> AsyncIterator[_Response]:  # noqa: N802, D102
        while True:
            ended, changed = self._ended, self._changed
            yield self._answer(request.service)
            if ended:
                return
            await changed.wait()

    def _change(self, *, serving: bool) -> None:
        self._serving = serving
        self._changed.set()
        self._changed = asyncio.Event()

    def _answer(self, service: str) -> _Response:
        if service not in self._services:
            return _Response(status=_Response.SERVICE_UNKNOWN)
        return _Response(status=_Response.SERVING if self._serving else _Response.NOT_SERVING)
