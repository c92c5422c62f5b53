"""Puts the search server together: catalog, Triton, indexes, core and gRPC port."""

import contextlib
import logging
import shutil
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

from pspsearch import traces
from pspsearch.app.describer import open_triton
from pspsearch.app.sample import filling_sample
from pspsearch.catalog.catalog import SqliteCatalog
from pspsearch.catalog.folder import INDEXES
from pspsearch.config import BundledTritonSettings, IndexSettings, Settings
from pspsearch.describe.decoding import Decoder
from pspsearch.describe.queries import QueryDescriber
from pspsearch.domain import DEFAULT_COLLECTION, Collection, CollectionSettings, Generation, ModelVersion
from pspsearch.errors import BadSettings
from pspsearch.images.pixels import ImageLimits
from pspsearch.index.bases.choice import Device, IndexMemory
from pspsearch.index.candidates.finder import FinderFailed
from pspsearch.index.candidates.gpu import find_device, free_bytes
from pspsearch.index.index import SegmentedIndex
from pspsearch.ingest.ingester import Ingester
from pspsearch.live.collections import Collections
from pspsearch.live.latencies import Latencies
from pspsearch.live.recent_images import RecentImages
from pspsearch.memory import MemoryBound, available_bytes
from pspsearch.model.repository import default_repository
from pspsearch.rollout.checks import Gate
from pspsearch.rollout.filling import Filler
from pspsearch.rollout.rollouts import Rollouts
from pspsearch.rpc.collection_service import Surroundings
from pspsearch.rpc.server import RpcServer
from pspsearch.search.searcher import Searcher
from pspsearch.triton.versions import Versions

log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def open_server(settings: Settings) -> AsyncGenerator[RpcServer]:
    """Yields a server that takes calls for as long as the context lasts, then finishes those under way.

    While it opens collections, its port is open already and its health says NOT_SERVING.
    """
    data = Path(settings.storage.data)
    limits = ImageLimits(settings.images.max_image_bytes, settings.images.max_image_pixels)
    index_memory = _choose_memory(settings.index)
    async with contextlib.AsyncExitStack() as stack:
        if settings.log.traces:
            stack.callback(traces.set_up(settings.log.traces))
        catalog = await stack.enter_async_context(await SqliteCatalog.open(data))
        repository = Path(settings.triton.repository) if settings.triton.repository else default_repository()
        triton = settings.triton.triton or BundledTritonSettings(repository)
        client, bundled = await open_triton(stack, triton, settings.triton.model)
        local = None if settings.triton.triton else repository
        versions = await stack.enter_async_context(Versions(client, local))
        if bundled is not None:
            bundled.objection = versions.objection

        async def open_index(collection: Collection, generation: Generation) -> SegmentedIndex:
            return await SegmentedIndex.open(
                data / INDEXES / str(generation.key),
                generation,
                collection.settings,
                catalog.rows_of(generation),
                memory=index_memory,
            )

        def drop_index(generation: Generation) -> None:
            shutil.rmtree(data / INDEXES / str(generation.key), ignore_errors=True)

        collections = Collections(catalog, versions.open, versions.release, open_index, drop_index)
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
            Filler(catalog, describer),
            Gate(settings.gate, catalog, describer, recent),
            latencies,
            settings.rollout,
        )
        stack.push_async_callback(rollouts.close)

        async def models() -> list[ModelVersion]:
            return await versions.served(settings.triton.model)

        words = client.address if settings.triton.triton else f"{client.address}, started by the server"
        around = Surroundings(words, settings.triton.model, models)
        server = await stack.enter_async_context(
            RpcServer(settings.serving, settings.security, searcher, ingester, collections, rollouts, catalog, around)
        )
        await collections.open()
        await collections.create_missing(DEFAULT_COLLECTION, CollectionSettings(settings.triton.model))
        await rollouts.open()
        if settings.storage.sample:
            model = settings.triton.model
            await stack.enter_async_context(filling_sample(collections, catalog, ingester, model))
        await server.set_serving()
        yield server


def _choose_memory(settings: IndexSettings) -> IndexMemory:
    """Chooses where indexes live and how much memory one may take; BadSettings if the GPU that is set is missing."""
    found = find_device()
    if settings.device == Device.GPU and found is not Device.GPU:
        raise BadSettings("device is gpu, and FAISS finds none (if there is one, install the package faiss-gpu)")
    device = Device.CPU if settings.device == Device.CPU else found
    log.info("indexes live on the %s", device)
    given = settings.index_memory_bytes
    memory = IndexMemory(given or available_bytes() // 2)
    if device is Device.CPU:
        return memory
    try:
        return replace(memory, gpu_bytes=given or free_bytes() // 2)
    except FinderFailed as error:
        raise BadSettings(f"{error}; device = cpu does without it") from error
