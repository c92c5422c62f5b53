"""Makes the network that a run begins with."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pspsearch.model.contract import InputShape
from pspsearch_build.data.batches import Source
from pspsearch_build.data.pictures import read_pixels
from pspsearch_build.errors import BuildError
from pspsearch_build.network.backbone import Weights
from pspsearch_build.network.calibration import begin
from pspsearch_build.network.checkpoint import Checkpoint
from pspsearch_build.network.descriptor_network import DescriptorNetwork, build_network
from pspsearch_build.training.settings import TrainingSettings

_BATCH = 32


def make_start(settings: TrainingSettings, sources: Sequence[Source]) -> DescriptorNetwork:
    """A checkpoint's network, or a new one prepared with the sources' pictures."""
    start = settings.start
    if start.checkpoint:
        return Checkpoint.load(Path(start.checkpoint)).network
    weights = _weights(start.weights)
    network = build_network(settings.spec, weights, settings.seed)
    if start.pictures:
        pixels = _draw(sources, start.pictures, network.spec.input, settings.seed)
        batches = [pixels[at : at + _BATCH] for at in range(0, len(pixels), _BATCH)]
        begin(network, batches, weights)
    return network


def _weights(given: str) -> Weights:
    if not given:
        return None
    return "download" if given == "download" else Path(given)


def _draw(sources: Sequence[Source], count: int, shape: InputShape, seed: int) -> NDArray[np.uint8]:
    """About `count` pictures or as many as there are, evenly from all sources, in random order."""
    random = np.random.default_rng(seed)
    chosen: list[Path] = []
    for source in sources:
        paths = [picture.path for picture in source.pictures.pictures]
        chosen += [paths[place] for place in map(int, random.permutation(len(paths))[: -(-count // len(sources))])]
    made = [read_pixels(chosen[place], shape) for place in map(int, random.permutation(len(chosen)))]
    read = [pixels for pixels in made if pixels is not None]
    if not read:
        raise BuildError("no picture of the sources can be read")
    return np.stack(read)
