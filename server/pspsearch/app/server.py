"""Puts the search server together: catalog, Triton, indexes, core and gRPC port."""

import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path

from pspsearch import traces
from pspsearch.app.describer import open_triton
from pspsearch.app.sample import filling_sample
from pspsearch.catalog.catalog import SqliteCatalog
from pspsearch.catalog.folder import INDEXES
from pspsearch.config import BundledTritonSettings, Settings, TritonSettings
from pspsearch.describe.decoding import Decoder
from pspsearch.describe.queries import QueryDescriber
from pspsearch.domain import DEFAULT_COLLECTION, CollectionSettings, ModelVersion
from pspsearch.images.pixels import ImageLimits
from pspsearch.index.engine import FaissEngine, choose_memory
from pspsearch.ingest.ingester import Ingester
from pspsearch.live.collections import Collections
from pspsearch.live.latencies import Latencies
from pspsearch.live.recent_images import RecentImages
from pspsearch.memory import MemoryBound, available_bytes
from pspsearch.model.in_use import VersionsInUse
from pspsearch.model.repository import default_repository
from pspsearch.ports import Models
from pspsearch.rollout.checks import Gate
from pspsearch.rollout.filling import Filler
from pspsearch.rollout.follower import Follower
from pspsearch.rollout.rollouts import Rollouts
from pspsearch.rpc.collection_service import Surroundings
from pspsearch.rpc.server import RpcServer
from pspsearch.search.searcher import Searcher
from pspsearch.triton.versions import Versions


@contextlib.asynccontextmanager
async def open_server(settings: Settings) -> AsyncGenerator[RpcServer]:
    """Yields a server that takes calls for as long as the context lasts, then finishes those under way.

    While it opens collections, its port is open already and its health says NOT_SERVING.
    """
    data = Path(settings.storage.data)
    limits = ImageLimits(settings.images.max_image_bytes, settings.images.max_image_pixels)
    engine = FaissEngine(data / INDEXES, choose_memory(settings.index))
    async with contextlib.AsyncExitStack() as stack:
        if settings.log.traces:
            stack.callback(traces.set_up(settings.log.traces))
        catalog = await stack.enter_async_context(await SqliteCatalog.open(data))
        repository = Path(settings.triton.repository) if settings.triton.repository else default_repository()
        versions, words = await _open_versions(stack, settings.triton, repository, limits)
        collections = Collections(catalog, versions.open, versions.release, engine)
        decoder = Decoder(limits)
        stack.callback(decoder.close)
        describer = QueryDescriber(catalog, decoder)
        latencies, recent = Latencies(), RecentImages(enabled=settings.rollout.rollout_queries)
        searcher = Searcher(collections, catalog, describer, latencies, recent)
        memory = MemoryBound(settings.storage.memory_bytes or available_bytes())
        ingester = Ingester(collections, catalog, describer, limits, memory)
        stack.push_async_callback(collections.close)
        rollouts = Rollouts(
            collections,
            catalog,
            versions.look,
            versions.open,
            Filler(catalog, describer, settings.rollout.rollout_images),
            Gate(settings.gate, catalog, describer, recent),
            latencies,
            settings.rollout,
        )
        stack.push_async_callback(rollouts.close)

        async def models() -> list[ModelVersion]:
            return await versions.served(settings.triton.model)

        around = Surroundings(words, settings.triton.model, models)
        server = await stack.enter_async_context(
            RpcServer(settings.serving, settings.security, searcher, ingester, collections, rollouts, catalog, around)
        )
        await collections.open()
        await collections.create_missing(DEFAULT_COLLECTION, CollectionSettings(settings.triton.model))
        await rollouts.open()
        follower = Follower(rollouts, collections, catalog, settings.rollout.rollout_watch_s)
        await stack.enter_async_context(follower)
        if settings.storage.sample:
            model = settings.triton.model
            await stack.enter_async_context(filling_sample(collections, catalog, ingester, model))
        await server.set_serving()
        yield server


async def _open_versions(
    stack: contextlib.AsyncExitStack, settings: TritonSettings, repository: Path, limits: ImageLimits
) -> tuple[Models, str]:
    """Returns what describes, and where that is, in words; it closes with the stack."""
    if settings.runtime == "embedded":
        from pspsearch.embedded.versions import EmbeddedVersions

        embedded = EmbeddedVersions(repository, limits)
        stack.push_async_callback(embedded.close)
        return embedded, "none: the model runs in the server's process"
    triton = settings.triton or BundledTritonSettings(repository)
    in_use = VersionsInUse(None if settings.triton else repository)
    client = await open_triton(stack, triton, settings.model, in_use.objection)
    versions = await stack.enter_async_context(Versions(client, in_use, limits))
    return versions, client.address if settings.triton else f"{client.address}, started by the server"
