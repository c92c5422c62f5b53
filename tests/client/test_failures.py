"""Turning the server's statuses back into the errors that it raised."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2

from pspsearch import errors
from pspsearch.client import AsyncClient, ItemId
from pspsearch.client.failures import ServerFailed, ServerUnavailable, status_error
from tests.servers.api_server import error_status, reason

RAISED = [
    errors.InvalidRequest,
    errors.EmptyImage,
    errors.UnknownFormat,
    errors.DamagedImage,
    errors.ImageTooLarge,
    errors.NotFound,
    errors.AlreadyExists,
    errors.ModelMismatch,
    errors.Overloaded,
    errors.TritonUnavailable,
    errors.DeadlineExceeded,
    errors.BrokenModel,
    errors.CatalogDamaged,
]


@pytest.mark.parametrize("kind", RAISED)
def test_reason_names_the_class(kind: type[errors.PspsearchError]) -> None:
    """The reason decides, whatever the code, and the message is the server's."""
    name = "".join(f"_{letter}" if letter.isupper() else letter.upper() for letter in kind.__name__).lstrip("_")

    error = status_error(error_status(grpc.StatusCode.UNKNOWN, "no, because", reason(name)))

    assert type(error) is kind
    assert str(error) == "no, because"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, errors.InvalidRequest),
        (grpc.StatusCode.NOT_FOUND, errors.NotFound),
        (grpc.StatusCode.ALREADY_EXISTS, errors.AlreadyExists),
        (grpc.StatusCode.FAILED_PRECONDITION, errors.ModelMismatch),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.Overloaded),
        (grpc.StatusCode.UNAVAILABLE, ServerUnavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.DeadlineExceeded),
        (grpc.StatusCode.DATA_LOSS, errors.CatalogDamaged),
        (grpc.StatusCode.INTERNAL, ServerFailed),
    ],
)
def test_code_is_enough_where_there_is_no_reason(code: grpc.StatusCode, kind: type[errors.PspsearchError]) -> None:
    """A proxy may answer instead of the server, and a later server may have unknown reasons."""
    assert type(status_error(error_status(code, "no"))) is kind
    assert type(status_error(error_status(code, "no", reason("OF_A_LATER_SERVER")))) is kind


def test_bad_filter_keeps_its_position() -> None:
    """It says where in the filter the error is."""
    status = error_status(grpc.StatusCode.INVALID_ARGUMENT, "at 7", reason("BAD_FILTER", position="7"))

    error = status_error(status)

    assert isinstance(error, errors.BadFilter)
    assert error.position == 7


def test_request_id_is_carried() -> None:
    """It finds the cause of an unexplained failure in the server's log."""
    request = error_details_pb2.RequestInfo(request_id="4711")

    error = status_error(error_status(grpc.StatusCode.INTERNAL, "internal error", request))

    assert isinstance(error, ServerFailed)
    assert error.request_id == "4711"


def test_good_status_is_no_error() -> None:
    """Code 0 is no error, whatever else the status has."""
    assert status_error(error_status(grpc.StatusCode.OK, "fine")) is None


class FullServer:
    """Takes one call, and then none until it is released. gRPC lets a few wait and drops the others."""

    def __init__(self) -> None:
        self.address = ""
        self._ready, self._released, self._over = threading.Event(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self) -> "FullServer":
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self._over.set()
        self._thread.join()

    def release(self) -> None:
        """Lets it answer everything that waits."""
        self._released.set()

    async def _serve(self) -> None:
        limits = (("grpc.server.max_pending_requests", 5), ("grpc.server.max_pending_requests_hard_limit", 10))
        server = grpc.aio.server(options=limits)
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Search": grpc.unary_unary_rpc_method_handler(self._answer)
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("pspsearch.v1.SearchService", methods),))
        self.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        self._ready.set()
        await asyncio.to_thread(self._over.wait)
        await server.stop(None)

    async def _answer(self, _request: bytes, _context: Any) -> bytes:
        self._released.wait(10)  # blocks the whole event loop
        return b""


@pytest.fixture
def full_server() -> Iterator[FullServer]:
    """A server for one test."""
    with FullServer() as server:
        yield server


async def test_dropped_call_is_told_as_overload(full_server: FullServer) -> None:
    """gRPC calls it CANCELLED, although no one cancelled it."""

    async def ask() -> errors.PspsearchError | None:
        try:
            await client.search(ItemId("a"))
        except errors.PspsearchError as error:
            full_server.release()
            return error
        return None

    async with AsyncClient(full_server.address, timeout_s=20) as client:
        failures = [failure for failure in await asyncio.gather(*(ask() for _ in range(50))) if failure]

    assert 1 <= len(failures) < 50
    assert {type(failure) for failure in failures} == {errors.Overloaded}
    assert "too many calls waiting" in str(failures[0])
