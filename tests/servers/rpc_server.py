"""The real gRPC server without Triton. Fakes replace FAISS and the disk unless a test gives something better."""

import contextlib
import socket
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from pspsearch.config import GateSettings, RolloutSettings, SecuritySettings, ServingSettings
from pspsearch.describe.decoding import Decoder
from pspsearch.describe.queries import QueryDescriber
from pspsearch.domain import (
    DEFAULT_COLLECTION,
    CollectionSettings,
    Generation,
    IndexKind,
    ModelVersion,
    OfferedVersion,
)
from pspsearch.errors import ModelMismatch
from pspsearch.images.pixels import ImageLimits
from pspsearch.ingest.ingester import Ingester
from pspsearch.live.collections import Collections
from pspsearch.live.latencies import Latencies
from pspsearch.live.recent_images import RecentImages
from pspsearch.memory import MemoryBound, available_bytes
from pspsearch.ports import Catalog, Index, IndexEngine, RowSource
from pspsearch.rollout.checks import Gate
from pspsearch.rollout.filling import Filler
from pspsearch.rollout.follower import Follower
from pspsearch.rollout.rollouts import Rollouts
from pspsearch.rpc.collection_service import Surroundings
from pspsearch.rpc.server import RpcServer
from pspsearch.search.searcher import Searcher
from tests.fakes.catalog import MemoryCatalog
from tests.fakes.describer import ColourDescriber
from tests.fakes.index import MemoryEngine

LIMITS = ImageLimits(max_bytes=1 << 20, max_pixels=1 << 20)


def has_ipv6() -> bool:
    """Whether this machine's loopback has IPv6."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as tried:
        tried.bind(("::1", 0))
        return True
    return False


@dataclass(frozen=True, slots=True)
class _Watched:
    """An engine, and what it was told to drop."""

    engine: IndexEngine
    dropped: list[Generation] = field(default_factory=list[Generation])

    async def open(self, generation: Generation, settings: CollectionSettings, rows: RowSource) -> Index:
        """As the engine does."""
        return await self.engine.open(generation, settings, rows)

    async def drop(self, generation: Generation) -> None:
        """As the engine does."""
        self.dropped.append(generation)
        await self.engine.drop(generation)


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts that the server was made of."""

    rpc: RpcServer
    collections: Collections
    catalog: Catalog
    ingester: Ingester
    describer: ColourDescriber
    rollouts: Rollouts
    follower: Follower
    """It looks when it is told to."""
    versions: dict[int, ColourDescriber]
    """The versions of the model `colours` that a look into the repository finds. The first is there from the start."""
    dropped: list[Generation] = field(default_factory=list[Generation])
    """Generations whose index was deleted."""
    released: list[int] = field(default_factory=list[int])
    """Versions whose describer was released."""

    @property
    def address(self) -> str:
        """The server's address."""
        return self.rpc.address


@contextlib.asynccontextmanager
async def open_server(
    *,
    max_calls: int = 64,
    max_message_bytes: int = 64 << 20,
    max_bytes_under_way: int = 0,
    drain_s: float = 10.0,
    host: str = "127.0.0.1",
    port: int = 0,
    metrics_port: int = 0,
    serving: bool = True,
    catalog: Catalog | None = None,
    engine: IndexEngine | None = None,
    index_kind: IndexKind = IndexKind.AUTO,
    versions: dict[int, ColourDescriber] | None = None,
    gate: GateSettings | None = None,
    security: SecuritySettings | None = None,
    memory: MemoryBound | None = None,
    rollout_images: int = 1,
) -> AsyncGenerator[Parts]:
    """Serves the catalog, with a collection `default` of the model `colours`, on a free port, images within LIMITS."""
    source = catalog or MemoryCatalog()
    memory = memory or MemoryBound(available_bytes())
    versions = {1: ColourDescriber()} if versions is None else versions
    describer, watched, released = versions[1], _Watched(engine or MemoryEngine()), list[int]()

    async def open_describer(model: str, version: int | None) -> ColourDescriber:
        if model != describer.version.model or version not in (None, *versions):
            raise ModelMismatch(f"Triton serves no version {version or ''} of {model}")
        return versions[version or 1]

    async def release(version: ModelVersion) -> None:
        released.append(version.version)

    async def look(_model: str) -> Sequence[OfferedVersion]:
        return [OfferedVersion(number, one.version.contract, one.reason) for number, one in sorted(versions.items())]

    async def models() -> Sequence[ModelVersion]:
        if describer.failure is not None:
            raise describer.failure
        return [describer.version]

    collections = Collections(source, open_describer, release, watched)
    await collections.open()
    settings = CollectionSettings(describer.version.model, index_kind=index_kind)
    await collections.create_missing(DEFAULT_COLLECTION, settings)
    with contextlib.closing(Decoder(LIMITS)) as decoder:
        query_describer = QueryDescriber(source, decoder)
        latencies, recent = Latencies(), RecentImages()
        checks = Gate(gate or GateSettings(), source, query_describer, recent)
        filler = Filler(source, query_describer, rollout_images)
        ingester = Ingester(collections, source, query_describer, LIMITS, memory)
        settings = RolloutSettings()
        rollouts = Rollouts(collections, source, look, open_describer, filler, checks, latencies, settings)
        await rollouts.open()
        follower = Follower(rollouts, collections, source, 0.0)
        rpc = RpcServer(
            ServingSettings(
                host=host,
                port=port,
                metrics_port=metrics_port,
                max_calls=max_calls,
                max_message_bytes=max_message_bytes,
                max_bytes_under_way=max_bytes_under_way,
                drain_s=drain_s,
            ),
            security or SecuritySettings(),
            Searcher(collections, source, query_describer, latencies, recent),
            ingester,
            collections,
            rollouts,
            source,
            Surroundings("127.0.0.1:8001", describer.version.model, models),
        )
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(collections.close)
            stack.push_async_callback(rollouts.close)
            await stack.enter_async_context(rpc)
            if serving:
                await rpc.set_serving()
            yield Parts(
                rpc, collections, source, ingester, describer, rollouts, follower, versions, watched.dropped, released
            )
