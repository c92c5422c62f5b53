"""Makes a usable network without any training: an honest stand-in until there are real weights."""

from pathlib import Path

import numpy as np
import torch

from pspsearch_build.network.backbone import Weights
from pspsearch_build.network.calibration import begin
from pspsearch_build.network.checkpoint import Checkpoint
from pspsearch_build.network.descriptor_network import build_network
from pspsearch_build.network.random_pictures import random_pictures
from pspsearch_build.network.spec import NetworkSpec

_BATCH = 32


def make_untrained(spec: NetworkSpec, weights: Weights = None, seed: int = 0) -> Checkpoint:
    """Makes a network whose backbone is random or as `weights` say, calibrated on procedural pictures.

    There are half again as many pictures as the descriptor has dimensions, which takes tens of seconds on two cores.
    The provenance says in words that nothing was trained, and names the weights file.
    """
    network = build_network(spec, weights, seed)
    count = spec.dimension * 3 // 2
    pixels = np.stack(list(random_pictures(count, spec.input, seed)))
    batches = [pixels[start : start + _BATCH] for start in range(0, count, _BATCH)]
    begin(network, batches, weights)
    return Checkpoint(
        network,
        {
            "training": f"none: a stand-in, random by seed {seed}, calibrated on {count} procedural pictures",
            "backbone": "random" if weights is None else f"weights of {_name(weights)}",
            "torch": torch.__version__,
        },
    )


def _name(weights: Path | str) -> str:
    return weights.name if isinstance(weights, Path) else "torchvision"
