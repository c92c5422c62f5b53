"""The gRPC server: opens the port, adds the services, reports health, and drains at the end."""

import asyncio
import contextlib
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, cast

import grpc.aio
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH
from grpc_reflection.v1alpha import reflection
from tritonclient.grpc import service_pb2

from pspsearch.callers.audit import Audit
from pspsearch.callers.budget import Budget, budget_for
from pspsearch.callers.guard import Guard
from pspsearch.callers.tokens import Tokens
from pspsearch.config import SecuritySettings, ServingSettings, join_address
from pspsearch.errors import PortTaken
from pspsearch.ingest.ingester import Ingester
from pspsearch.live.collections import Collections
from pspsearch.ports import Storage
from pspsearch.rollout.rollouts import Rollouts
from pspsearch.rpc.admission import Admission
from pspsearch.rpc.collection_service import CollectionService, Surroundings
from pspsearch.rpc.door import Door
from pspsearch.rpc.health import Health
from pspsearch.rpc.item_service import ItemCatalog, ItemService
from pspsearch.rpc.kserve_service import KserveService
from pspsearch.rpc.metrics import Metrics
from pspsearch.rpc.model_service import ModelService
from pspsearch.rpc.public import Public
from pspsearch.rpc.search_service import SearchService
from pspsearch.rpc.tls import credentials
from pspsearch.search.searcher import Searcher
from pspsearch.v1 import (
    collection_service_pb2,
    item_service_pb2,
    model_service_pb2,
    search_service_pb2,
)

SERVICES: tuple[ServiceDescriptor, ...] = (
    search_service_pb2.DESCRIPTOR.services_by_name["SearchService"],
    model_service_pb2.DESCRIPTOR.services_by_name["ModelService"],
    item_service_pb2.DESCRIPTOR.services_by_name["ItemService"],
    collection_service_pb2.DESCRIPTOR.services_by_name["CollectionService"],
    cast("Any", service_pb2).DESCRIPTOR.services_by_name["GRPCInferenceService"],
)
_MAX_ANSWER_BYTES = 1 << 30


class ServedCatalog(ItemCatalog, Storage, Protocol):
    """What the services need of a catalog."""


class RpcServer:
    """A context manager. Its port opens on entry, it takes calls after `set_serving`, and it drains on exit."""

    def __init__(
        self,
        settings: ServingSettings,
        security: SecuritySettings,
        searcher: Searcher,
        ingester: Ingester,
        collections: Collections,
        rollouts: Rollouts,
        catalog: ServedCatalog,
        around: Surroundings,
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self.metrics = Metrics(collections, rollouts)
        tokens = Tokens(Path(security.tokens)) if security.tokens else None
        self._credentials = credentials(security)
        self._audit = Audit(Path(security.audit_log) if security.audit_log else None)
        guard = Guard(
            tokens,
            security.caller_calls_per_s,
            security.caller_calls,
            budget=Budget(budget_for(settings)),
            certified=bool(security.tls_client_ca),
        )
        self.admission = Admission(settings.max_calls, self.metrics, guard, self._audit)
        names = [service.full_name for service in SERVICES]
        self._health = Health(names)
        self._server = grpc.aio.server(
            options=(
                ("grpc.so_reuseport", 0),  # binding a taken port must fail, not share its calls
                ("grpc.max_receive_message_length", settings.max_message_bytes),
                ("grpc.compression_enabled_algorithms_bitset", 1),  # none: a small compressed message may be large here
                ("grpc.max_send_message_length", _MAX_ANSWER_BYTES),
                ("grpc.keepalive_time_ms", 60_000),
                ("grpc.keepalive_timeout_ms", 20_000),
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            )
        )
        search = SearchService(self.admission, searcher, collections)
        items = ItemService(self.admission, ingester, collections, catalog)
        all_collections = CollectionService(self.admission, collections, rollouts, catalog, around)
        all_models = ModelService(self.admission, rollouts, collections, around.default_model)
        kserve = KserveService(self.admission, searcher, collections)
        door = Door(self.admission, settings.max_message_bytes)
        servicers = (search, all_models, items, all_collections, kserve)
        self._server.add_generic_rpc_handlers(tuple(map(door.open, SERVICES, servicers)))
        public: Any = Public(self._server, settings.max_message_bytes)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, public)
        reflection.enable_server_reflection((*names, HEALTH, reflection.SERVICE_NAME), public)
        self.address = ""

    async def __aenter__(self) -> Self:
        wanted = join_address(self._settings.host, self._settings.port)
        try:
            if self._credentials is None:
                port = self._server.add_insecure_port(wanted)
            else:
                port = self._server.add_secure_port(wanted, self._credentials)
        except RuntimeError as error:
            raise PortTaken(f"{wanted} cannot be bound: is another server there already?") from error
        self.address = join_address(self._settings.host, port)
        await self._server.start()
        try:
            self._endpoint = self.metrics.serve(self._settings.metrics_port) if self._settings.metrics_port else None
        except OSError as error:
            await self._server.stop(None)
            raise PortTaken(
                f"127.0.0.1:{self._settings.metrics_port}, for metrics, cannot be bound: {error}"
            ) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.drain()
        if self._endpoint is not None:
            await asyncio.to_thread(self._endpoint.shutdown)
            self._endpoint.server_close()
        self._audit.close()

    async def set_serving(self) -> None:
        """Takes calls from now on."""
        self.admission.open = True
        self._health.set_serving()

    async def go_on(self) -> None:
        """Never returns; raises the error that makes it impossible to go on."""
        raise await self._catalog.failed()

    async def drain(self) -> None:
        """Takes no more calls, and returns when those under way have ended. Cancels those left after `drain_s`."""
        self.admission.open = False
        self._health.end()
        started = time.monotonic()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.admission.idle.wait(), self._settings.drain_s)
        await self._server.stop(max(0.0, self._settings.drain_s - (time.monotonic() - started)))
        await self.admission.idle.wait()
