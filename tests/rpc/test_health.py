"""What tools without the project's code see: health, reflection, the port."""

import asyncio
import socket
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from pspsearch.config import SecuritySettings
from pspsearch.errors import PortTaken
from pspsearch.rpc import public
from tests.servers.rpc_client import TEMPLE, check, item, open_api, watch
from tests.servers.rpc_server import has_ipv6, open_server

PATIENCE_S = 30
"""How long a test waits for something that should happen at once."""
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICES = ("pspsearch.v1.SearchService", "pspsearch.v1.ItemService", "pspsearch.v1.CollectionService")


@pytest.mark.parametrize("service", ["", *SERVICES])
async def test_health_follows_the_server(service: str) -> None:
    """It is not serving while it starts, then serving, and not serving again while it drains."""
    async with open_api(serving=False) as api:
        before = (await check(api.channel, service)).status
        await api.server.rpc.set_serving()
        after = (await check(api.channel, service)).status

    assert (before, after) == (NOT_SERVING, SERVING)


async def test_health_of_an_unknown_service_is_not_found() -> None:
    """The health protocol demands this."""
    async with open_api() as api:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await check(api.channel, "nobody")

    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_watches_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watcher who leaves makes room for another."""
    monkeypatch.setattr(public, "_WATCHES", 2)
    async with open_api() as api:
        watches = [watch(api.channel) for _ in range(2)]
        for one in watches:
            await anext(aiter(one))
        with pytest.raises(grpc.aio.AioRpcError, match="the crowd of strangers has 2 streams open already"):
            await anext(aiter(watch(api.channel)))
        watches[0].cancel()
        async with asyncio.timeout(PATIENCE_S):
            while not await _can_watch(api.channel):
                pass


async def _can_watch(channel: grpc.aio.Channel) -> bool:
    try:
        return (await anext(aiter(watch(channel)))).status == SERVING
    except grpc.aio.AioRpcError:
        return False


async def test_watchers_hear_of_every_change_and_of_the_end() -> None:
    """This holds even if one leaves, which breaks grpc_health's own servicer. No watcher delays the drain."""
    async with open_api(serving=False, drain_s=1e6) as api:
        leaving = watch(api.channel)
        staying = aiter(watch(api.channel))
        heard = [(await anext(aiter(leaving))).status, (await anext(staying)).status]
        leaving.cancel()
        await api.server.rpc.set_serving()
        heard.append((await anext(staying)).status)
        await asyncio.wait_for(api.server.rpc.drain(), PATIENCE_S)
        heard += [one.status async for one in staying]

    assert heard == [NOT_SERVING, NOT_SERVING, SERVING, NOT_SERVING]


async def test_watch_of_an_unknown_service_says_so() -> None:
    """The service may be added later, as far as the watcher knows."""
    async with open_api() as api:
        status = (await anext(aiter(watch(api.channel, "nobody")))).status

    assert status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


async def test_reflection_is_enough_to_search() -> None:
    """A client that knows only the address finds the services, learns their messages and calls a method."""
    async with open_api() as api:
        await api.fill(item("temple"))
        services, answer = await asyncio.to_thread(_search_by_reflection, api.server.address)

    assert {*SERVICES, "grpc.health.v1.Health"} <= set(services)
    assert [hit.id for hit in answer.hits] == ["temple"]


def _search_by_reflection(address: str) -> tuple[list[str], Any]:
    with grpc.insecure_channel(address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        pool = DescriptorPool(database)
        method = pool.FindServiceByName("pspsearch.v1.SearchService").methods_by_name["Search"]
        request, response = (GetMessageClass(kind) for kind in (method.input_type, method.output_type))
        call = channel.unary_unary("/pspsearch.v1.SearchService/Search", request.SerializeToString, response.FromString)
        return list(database.get_services()), call(request(query={"image": TEMPLE}))


@pytest.mark.parametrize(("host", "written"), [("::1", "[::1]"), ("[::1]", "[::1]"), ("::", "[::]")])
@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback, so that nothing is bound to it")
async def test_ipv6_host_is_served(host: str, written: str) -> None:
    """The host may have brackets or not, and the reported address can be called."""
    async with open_server(host=host, security=SecuritySettings(insecure=True)) as server:
        port = server.address.removeprefix(f"{written}:")
        async with grpc.aio.insecure_channel(server.address) as channel:
            status = (await check(channel)).status

    assert (status, port.isdecimal()) == (SERVING, True)


async def test_taken_port_is_one_sentence() -> None:
    """Two servers never share a port by accident."""
    async with open_server() as first:
        port = int(first.address.rpartition(":")[2])
        with pytest.raises(PortTaken, match=f"127.0.0.1:{port}"):
            async with open_server(port=port):
                pass


async def test_taken_metrics_port_is_one_sentence() -> None:
    """The gRPC port is free again afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with pytest.raises(PortTaken, match=f"127.0.0.1:{taken}, for metrics"):
            async with open_server(metrics_port=taken):
                pass
