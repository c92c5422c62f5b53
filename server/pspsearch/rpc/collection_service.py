"""CollectionService, translated to calls of the core."""

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from pspsearch.domain import CollectionSettings, ModelVersion
from pspsearch.errors import InvalidRequest, RetryLater
from pspsearch.live.collections import Collections
from pspsearch.live.live import Live
from pspsearch.ports import Storage
from pspsearch.rollout.rollouts import Rollouts
from pspsearch.rpc.admission import Admission, Visitor
from pspsearch.rpc.messages import read_kind, write_collection
from pspsearch.v1 import collection_service_pb2 as collections_pb
from pspsearch.v1 import resources_pb2 as resources

_TARGET_RECALL = 0.95
_PATIENCE_S = 0.25
"""How long a status waits for a Triton that does not answer."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the status reports about the server's surroundings."""

    triton: str
    """Triton's address, and whether the server started it."""
    default_model: str
    """The model of a collection that is created without one."""
    models: Callable[[], Awaitable[Sequence[ModelVersion]]]
    """Returns the versions of the default model that Triton serves."""


class CollectionService:
    """Creates, lists and deletes collections, and reports the server's status."""

    def __init__(
        self, admission: Admission, collections: Collections, rollouts: Rollouts, storage: Storage, around: Surroundings
    ) -> None:
        self._admission = admission
        self._collections = collections
        self._rollouts = rollouts
        self._storage = storage
        self._around = around
        self._started = time.monotonic()

    async def CreateCollection(
        self, request: collections_pb.CreateCollectionRequest, visitor: Visitor
    ) -> collections_pb.CreateCollectionResponse:
        wanted = request.collection
        settings = CollectionSettings(
            model=wanted.model or self._around.default_model,
            keep_images=wanted.keep_images if wanted.HasField("keep_images") else True,
            index_kind=read_kind(wanted.index_kind),
            target_recall=wanted.target_recall or _TARGET_RECALL,
        )
        live = await self._collections.create(wanted.name, settings)
        return collections_pb.CreateCollectionResponse(collection=self._write(live))

    async def GetCollection(
        self, request: collections_pb.GetCollectionRequest, visitor: Visitor
    ) -> collections_pb.GetCollectionResponse:
        live = self._collections.get(request.name)
        return collections_pb.GetCollectionResponse(collection=self._write(live))

    async def ListCollections(
        self, request: collections_pb.ListCollectionsRequest, visitor: Visitor
    ) -> collections_pb.ListCollectionsResponse:
        return collections_pb.ListCollectionsResponse(collections=self._all(visitor))

    async def DeleteCollection(
        self, request: collections_pb.DeleteCollectionRequest, visitor: Visitor
    ) -> collections_pb.DeleteCollectionResponse:
        if not request.name:
            raise InvalidRequest("name the collection to delete: nothing is deleted by default")
        count = await self._rollouts.delete(request.name)
        return collections_pb.DeleteCollectionResponse(deleted_count=count)

    async def GetServerStatus(
        self, request: collections_pb.GetServerStatusRequest, visitor: Visitor
    ) -> collections_pb.GetServerStatusResponse:
        models: Sequence[ModelVersion] = ()
        with contextlib.suppress(RetryLater, TimeoutError):  # a status must work while Triton is away
            models = await asyncio.wait_for(self._around.models(), _PATIENCE_S)
        return collections_pb.GetServerStatusResponse(
            version=version("pspsearch"),
            serving=self._admission.open,
            uptime_s=time.monotonic() - self._started,
            triton=self._around.triton,
            models=[
                resources.Origin(model=one.model, model_version=one.version, fingerprint=one.contract.fingerprint)
                for one in models
            ],
            collections=self._all(visitor),
            memory_bytes=_resident_bytes(),
            catalog_bytes=self._storage.size_bytes(),
            requests_in_flight=self._admission.in_flight,
        )

    def _all(self, visitor: Visitor) -> list[resources.Collection]:
        """The collections that the caller may see."""
        return [self._write(live) for live in self._collections.all() if visitor.access.sees(live.collection.name)]

    def _write(self, live: Live) -> resources.Collection:
        return write_collection(live, self._rollouts.under_way(live.collection))


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
