"""The real gRPC server without Triton; over fakes where a test gives nothing better: no FAISS, no disk."""

import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from pspsearch.config import ServingSettings
from pspsearch.domain import Collection, CollectionSettings, Generation, ModelVersion
from pspsearch.errors import ModelMismatch
from pspsearch.images import ImageLimits
from pspsearch.ingest.ingester import Ingester
from pspsearch.ports import Catalog
from pspsearch.rpc.collection_service import Surroundings
from pspsearch.rpc.server import RpcServer
from pspsearch.search.collections import DEFAULT, Collections, OpenIndex
from pspsearch.search.decoding import Decoder
from pspsearch.search.describing import QueryDescriber
from pspsearch.search.searcher import Searcher
from tests.fakes.catalog import MemoryCatalog
from tests.fakes.describer import ColourDescriber
from tests.fakes.index import MemoryIndex

LIMITS = ImageLimits(max_bytes=1 << 20, max_pixels=1 << 20)


@dataclass(frozen=True, slots=True)
class Parts:
    """What the server was made of."""

    rpc: RpcServer
    collections: Collections
    catalog: Catalog
    describer: ColourDescriber
    dropped: list[Generation] = field(default_factory=list[Generation])
    """Generations whose index was told to leave nothing."""

    @property
    def address(self) -> str:
        """Where it answers."""
        return self.rpc.address


@contextlib.asynccontextmanager
async def open_server(
    *,
    max_calls: int = 64,
    max_message_bytes: int = 64 << 20,
    drain_s: float = 10.0,
    port: int = 0,
    metrics_port: int = 0,
    serving: bool = True,
    catalog: Catalog | None = None,
    open_index: OpenIndex | None = None,
) -> AsyncGenerator[Parts]:
    """Serves the catalog, with a collection `default` of the model `colours`, on a free port, images within LIMITS."""
    source = catalog or MemoryCatalog()
    describer, dropped = ColourDescriber(), list[Generation]()

    async def open_describer(model: str, _version: int | None) -> ColourDescriber:
        if model != describer.version.model:
            raise ModelMismatch(f"Triton serves no version of {model}")
        return describer

    async def open_memory_index(_collection: Collection, generation: Generation) -> MemoryIndex:
        return MemoryIndex(source.rows_of(generation))

    async def models() -> Sequence[ModelVersion]:
        if describer.failure is not None:
            raise describer.failure
        return [describer.version]

    collections = Collections(source, open_describer, open_index or open_memory_index, dropped.append)
    await collections.open()
    if not collections.all():
        await collections.create(DEFAULT, CollectionSettings(describer.version.model))
    with contextlib.closing(Decoder(LIMITS)) as decoder:
        query_describer = QueryDescriber(source, decoder)
        rpc = RpcServer(
            ServingSettings(
                port=port,
                metrics_port=metrics_port,
                max_calls=max_calls,
                max_message_bytes=max_message_bytes,
                drain_s=drain_s,
            ),
            Searcher(collections, source, query_describer),
            Ingester(collections, source, query_describer, LIMITS),
            collections,
            source,
            Surroundings("127.0.0.1:8001", describer.version.model, models),
        )
        async with rpc:
            if serving:
                await rpc.set_serving()
            yield Parts(rpc, collections, source, describer, dropped)
