"""The IndexEngine port: each generation's index has its own folder."""

import asyncio
import logging
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from pspsearch.config import IndexSettings
from pspsearch.domain import CollectionSettings, Generation
from pspsearch.errors import BadSettings
from pspsearch.index.candidates.finder import FinderFailed
from pspsearch.index.candidates.gpu import find_device, free_bytes
from pspsearch.index.index import SegmentedIndex
from pspsearch.index.memory import Device, IndexMemory
from pspsearch.index.upkeep import USUAL_BOUNDS, Bounds
from pspsearch.memory import available_bytes
from pspsearch.ports import RowSource

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FaissEngine:
    """Implements the port `IndexEngine` with FAISS in this process, and snapshots on disk."""

    folder: Path
    """The parent folder of all indexes; created if it is missing."""
    memory: IndexMemory
    bounds: Bounds = USUAL_BOUNDS

    async def open(self, generation: Generation, settings: CollectionSettings, rows: RowSource) -> SegmentedIndex:
        """See the port."""
        folder = self.folder_of(generation)
        return await SegmentedIndex.open(folder, generation, settings, rows, memory=self.memory, bounds=self.bounds)

    async def drop(self, generation: Generation) -> None:
        """See the port."""
        await asyncio.to_thread(shutil.rmtree, self.folder_of(generation), ignore_errors=True)

    def folder_of(self, generation: Generation) -> Path:
        """Returns the folder of the generation's index."""
        return self.folder / str(generation.key)


def choose_memory(settings: IndexSettings) -> IndexMemory:
    """Chooses where indexes live and how much memory one may take. Raises BadSettings if the settings cannot be met."""
    found = find_device()
    if settings.device == Device.GPU and found is not Device.GPU:
        raise BadSettings("device is gpu, and FAISS finds none (the package faiss-gpu brings it to where one is)")
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
