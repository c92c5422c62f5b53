"""The network that a run begins with."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pspsearch.contract import InputShape
from pspsearch.errors import BadImage
from pspsearch.images import decode_pixels
from pspsearch_build.data.batches import Source
from pspsearch_build.network.backbone import Weights
from pspsearch_build.network.calibration import calibrate
from pspsearch_build.network.checkpoint import Checkpoint
from pspsearch_build.network.descriptor_network import DescriptorNetwork, build_network
from pspsearch_build.training.settings import TrainingSettings

log = logging.getLogger(__name__)

_BATCH = 32


def make_start(settings: TrainingSettings, sources: Sequence[Source]) -> DescriptorNetwork:
    """A trained network, or a new one whose projection whitens what the sources' pictures look like to its backbone."""
    start = settings.start
    if start.checkpoint:
        return Checkpoint.load(Path(start.checkpoint)).network
    network = build_network(settings.spec, _weights(start.weights), settings.seed)
    if start.pictures:
        pixels = _draw(sources, start.pictures, network.spec.input, settings.seed)
        batches = [pixels[at : at + _BATCH] for at in range(0, len(pixels), _BATCH)]
        calibrate(network, batches, backbone=not start.weights)
    return network


def _weights(given: str) -> Weights:
    if not given:
        return None
    return "download" if given == "download" else Path(given)


def _draw(sources: Sequence[Source], count: int, shape: InputShape, seed: int) -> NDArray[np.uint8]:
    """Up to so many pictures as they are, evenly of all sources, in random order."""
    random = np.random.default_rng(seed)
    chosen: list[Path] = []
    for source in sources:
        paths = [picture.path for picture in source.pictures.pictures]
        chosen += [paths[place] for place in map(int, random.permutation(len(paths))[: -(-count // len(sources))])]
    made = [_decode(chosen[place], shape) for place in map(int, random.permutation(len(chosen)))]
    return np.stack([pixels for pixels in made if pixels is not None])


def _decode(path: Path, shape: InputShape) -> NDArray[np.uint8] | None:
    """None where the picture cannot be read."""
    try:
        return decode_pixels(path.read_bytes(), shape)
    except (OSError, BadImage) as error:
        log.warning("%s is left out: %s", path, error)
        return None
