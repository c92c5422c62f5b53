"""Direct calls to the gRPC server by its stubs, and the errors that it sends."""

import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import grpc.aio
import numpy as np
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2
from numpy.typing import NDArray

from pspsearch.v1 import (
    collection_service_pb2_grpc,
    item_service_pb2_grpc,
    model_service_pb2_grpc,
    search_service_pb2_grpc,
)
from pspsearch.v1 import item_service_pb2 as items_pb
from pspsearch.v1 import resources_pb2 as resources
from pspsearch.v1 import search_service_pb2 as searches
from tests.fakes.describer import VERSION
from tests.pictures import encode, load_photo
from tests.servers.rpc_server import Parts, open_server

TEMPLE, FLOWER = (encode(load_photo(96, 64, number)) for number in (0, 1))

_Detail = TypeVar("_Detail", bound=Message)


@dataclass(frozen=True, slots=True)
class Api:
    """A server and a channel to it."""

    server: Parts
    channel: grpc.aio.Channel
    search: "search_service_pb2_grpc.SearchServiceAsyncStub"
    items: "item_service_pb2_grpc.ItemServiceAsyncStub"
    collections: "collection_service_pb2_grpc.CollectionServiceAsyncStub"
    models: "model_service_pb2_grpc.ModelServiceAsyncStub"

    def send(self, request: Message) -> Awaitable[Any]:
        """Sends any request, by the method that takes it."""
        method = type(request).__name__.removesuffix("Request")
        stubs = (self.search, self.items, self.collections, self.models)
        return next(getattr(stub, method) for stub in stubs if hasattr(stub, method))(request)

    async def fill(self, *given: items_pb.ItemInput) -> None:
        """Puts items in, all of which must be good."""
        answer = await self.items.UpsertItems(items_pb.UpsertItemsRequest(items=given))
        assert [one.status.code for one in answer.results] == [0] * len(given)
        self.server.describer.entered.clear()  # the next call sets it

    async def list_all(self) -> list[resources.Item]:
        """The items of the default collection."""
        return list((await self.items.ListItems(items_pb.ListItemsRequest(page_size=1000))).items)


@contextlib.asynccontextmanager
async def open_api(**options: Any) -> AsyncGenerator[Api]:
    """Opens a server and a channel. `options` are those of `open_server`."""
    async with open_server(**options) as server, grpc.aio.insecure_channel(server.address) as channel:
        yield Api(
            server,
            channel,
            search_service_pb2_grpc.SearchServiceStub(channel),
            item_service_pb2_grpc.ItemServiceStub(channel),
            collection_service_pb2_grpc.CollectionServiceStub(channel),
            model_service_pb2_grpc.ModelServiceStub(channel),
        )


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a call, a query or an item failed."""

    status: status_pb2.Status

    @property
    def code(self) -> grpc.StatusCode:
        """gRPC's name for it."""
        return next(code for code in grpc.StatusCode if code.value[0] == self.status.code)

    @property
    def reason(self) -> str:
        """The class of the error."""
        return self.detail(error_details_pb2.ErrorInfo).reason

    @property
    def details(self) -> list[str]:
        """The kinds of details in the status."""
        return [packed.TypeName().rpartition(".")[2] for packed in self.status.details]

    def detail(self, kind: type[_Detail]) -> _Detail:
        """The only detail of that kind; an empty one if there is none."""
        found = kind()
        assert sum(packed.Unpack(found) for packed in self.status.details) <= 1
        return found


async def refuse(call: Awaitable[Any]) -> Refusal:
    """Makes a call that must fail, and checks that its status line says the same as its details."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    metadata = caught.value.trailing_metadata()
    assert metadata is not None
    details: Any = metadata["grpc-status-details-bin"]
    refusal = Refusal(status_pb2.Status.FromString(details))
    assert (caught.value.code(), caught.value.details()) == (refusal.code, refusal.status.message)
    assert metadata["x-request-id"] == refusal.detail(error_details_pb2.RequestInfo).request_id
    return refusal


def assert_nothing_escaped(caplog: pytest.LogCaptureFixture) -> None:
    """No exception may escape the server's own handling into the log of gRPC or of the event loop."""
    foreign = [record for record in caplog.get_records("call") if not record.name.startswith("pspsearch.")]
    assert [record.getMessage() for record in foreign if record.levelno >= logging.WARNING] == []


def check(channel: grpc.aio.Channel, service: str = "") -> Awaitable[health_pb2.HealthCheckResponse]:
    """The server's health, without the project's code."""
    call = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        health_pb2.HealthCheckRequest.SerializeToString,
        health_pb2.HealthCheckResponse.FromString,
    )
    return call(health_pb2.HealthCheckRequest(service=service))


def watch(
    channel: grpc.aio.Channel, service: str = ""
) -> "grpc.aio.UnaryStreamCall[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse]":
    """The server's health and its changes."""
    call = channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        health_pb2.HealthCheckRequest.SerializeToString,
        health_pb2.HealthCheckResponse.FromString,
    )
    return call(health_pb2.HealthCheckRequest(service=service))


def query(**by: Any) -> searches.Query:
    """A query by `image`, `id` or `descriptor`."""
    return searches.Query(**by)


def descriptor(values: Sequence[float] | NDArray[np.float32], fingerprint: str | None = None) -> resources.Descriptor:
    """A descriptor of the served space, or of a named one."""
    known = VERSION.contract.fingerprint if fingerprint is None else fingerprint
    return resources.Descriptor(values=np.asarray(values).tolist(), fingerprint=known)


def item(id_: str, image: bytes = TEMPLE, attributes: str | None = None) -> items_pb.ItemInput:
    """An item with an image."""
    return items_pb.ItemInput(id=id_, image=image, attributes_json=attributes)
