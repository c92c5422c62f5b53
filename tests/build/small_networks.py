"""Calibrated networks that take a second to make."""

from functools import lru_cache

from pspsearch.model.contract import InputShape
from pspsearch_build.network.checkpoint import Checkpoint
from pspsearch_build.network.spec import NetworkSpec
from pspsearch_build.network.untrained import make_untrained

SMALL = NetworkSpec(input=InputShape(80, 96), width=64, dimension=128, cells=True, segmentation_classes=3)


@lru_cache
def small_checkpoint(seed: int = 0) -> Checkpoint:
    """A checkpoint of the spec SMALL. It is shared, so tests must not change it."""
    return make_untrained(SMALL, seed=seed)
