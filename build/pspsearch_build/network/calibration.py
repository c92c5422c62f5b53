"""Making an untrained network usable: statistics and a whitening taken from pictures, without any training."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pspsearch_build.errors import BuildError
from pspsearch_build.network.batch_norm import round_weights
from pspsearch_build.network.descriptor_network import DescriptorNetwork
from pspsearch_build.network.whitening import fit_whitening

Batches = Sequence[NDArray[np.uint8]]
"""Pixels [batch, height_px, width_px, 3], batch after batch."""

_STATISTICS_PICTURES = 128
"""So many are enough for BatchNorm: each one counts with every pixel of a map."""


def calibrate(network: DescriptorNetwork, batches: Batches, *, backbone: bool, shrinkage: float = 1.0) -> None:
    """Data-dependent initialisation, in place, from pixels of more pictures than the descriptor has dimensions.

    Sets the running statistics of BatchNorm, rounds the weights for half precision, and makes the projection a
    whitening of the pooled vectors: descriptors of different pictures come to stand at right angles on average.
    `backbone` says whether the backbone's statistics are set too: right for random weights, wrong for trained ones.
    Weak directions are noisy in half precision, hence the strong shrinkage (`fit_whitening`). The network is in eval
    mode afterwards.
    """
    dimension, pictures = network.spec.dimension, sum(map(len, batches))
    if pictures <= dimension:
        raise BuildError(f"calibrating {dimension} dimensions needs more than {dimension} pictures, not {pictures}")
    network.eval()
    _set_statistics(network, batches, backbone=backbone)
    round_weights(network.trunk)
    whitening = fit_whitening(torch.cat([_pool(network, pixels) for pixels in batches]), dimension, shrinkage)
    with torch.no_grad():
        network.head.projection.weight.copy_(whitening.matrix)
        network.head.projection.bias.copy_(-whitening.matrix @ whitening.mean)
    round_weights(network.head)


@torch.no_grad()
def _set_statistics(network: DescriptorNetwork, batches: Batches, *, backbone: bool) -> None:
    """Each layer's mean and variance become the average over the batches."""
    part = network.trunk if backbone else network.trunk.fusion
    norms = [layer for layer in part.modules() if isinstance(layer, nn.BatchNorm2d)] if part else []
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.reset_running_stats()
        layer.momentum = None  # a plain average instead of an exponential one
        layer.train()
    seen = 0
    for pixels in batches:
        if seen < _STATISTICS_PICTURES:
            network.fuse(torch.from_numpy(pixels))
            seen += len(pixels)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
    network.eval()


@torch.no_grad()
def _pool(network: DescriptorNetwork, pixels: NDArray[np.uint8]) -> Tensor:
    """What the projection sees."""
    return network.head.pool(network.fuse(torch.from_numpy(pixels))[1])
