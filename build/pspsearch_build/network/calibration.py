"""Making a network usable before any training: its statistics and its projection, taken from pictures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pspsearch_build.errors import BuildError
from pspsearch_build.network.backbone import Weights, read_classifier
from pspsearch_build.network.batch_norm import round_weights
from pspsearch_build.network.descriptor_network import DescriptorNetwork
from pspsearch_build.network.whitening import fit_compression, fit_whitening

Batches = Sequence[NDArray[np.uint8]]
"""Pixels [batch, height_px, width_px, 3], batch after batch."""

_STATISTICS_PICTURES = 128
"""So many are enough for BatchNorm: each one counts with every pixel of a map."""


def begin(network: DescriptorNetwork, batches: Batches, weights: Weights) -> None:
    """What a new network needs by the weights of its backbone: `calibrate`, or `compress` where they are trained."""
    if weights is None:
        calibrate(network, batches)
    else:
        channels = network.trunk.backbone.channels
        compress(network, batches, read_classifier(weights, channels) if isinstance(weights, Path) else None)


def calibrate(network: DescriptorNetwork, batches: Batches) -> None:
    """Makes random weights usable, in place, from pixels of more pictures than the descriptor has dimensions.

    Sets the running statistics of BatchNorm, rounds the weights for half precision, and makes the projection a
    whitening of the pooled vectors: descriptors of different pictures come to stand at right angles on average.
    Weak directions are noisy in half precision, hence the strong shrinkage (`fit_whitening`). The network is in eval
    mode afterwards.
    """
    _require_pictures(network, batches)
    _set_statistics(network.trunk, network, batches)
    _whiten(network, batches)


def compress(network: DescriptorNetwork, batches: Batches, directions: Tensor | None = None) -> None:
    """Makes a trained backbone's network as good as that backbone is, in fewer numbers; in place, as `calibrate`.

    The projection keeps what is strongest in the backbone's pooled vectors (`fit_compression`). What the fusion makes
    is random before training, so it counts for nothing; where the head sees nothing else, it is whitened.
    `directions` [count, channels of the backbone] are others that matter to the backbone.
    """
    _require_pictures(network, batches)
    if network.trunk.fusion:
        _set_statistics(network.trunk.fusion, network, batches)
    if not network.spec.shortcut:
        _whiten(network, batches)
        return
    pooled = _pool_all(network, batches)
    blocks = pooled.shape[1] // network.trunk.channels
    own = torch.arange(network.trunk.channels) >= network.trunk.channels - network.trunk.backbone.channels
    seen = own.repeat(blocks)
    weight = torch.zeros(network.spec.dimension, pooled.shape[1])
    beside = None if directions is None else directions.repeat(1, blocks)
    weight[:, seen] = fit_compression(pooled[:, seen], network.spec.dimension, beside)
    _set_projection(network, weight, torch.zeros(network.spec.dimension))


def _whiten(network: DescriptorNetwork, batches: Batches) -> None:
    whitening = fit_whitening(_pool_all(network, batches), network.spec.dimension, shrinkage=1.0)
    _set_projection(network, whitening.matrix, -whitening.matrix @ whitening.mean)


def _require_pictures(network: DescriptorNetwork, batches: Batches) -> None:
    dimension, pictures = network.spec.dimension, sum(map(len, batches))
    if pictures <= dimension:
        raise BuildError(f"calibrating {dimension} dimensions needs more than {dimension} pictures, not {pictures}")


def _pool_all(network: DescriptorNetwork, batches: Batches) -> Tensor:
    """What the projection sees of every picture, of weights that half precision holds."""
    round_weights(network.trunk)
    return torch.cat([_pool(network, pixels) for pixels in batches])


@torch.no_grad()
def _set_projection(network: DescriptorNetwork, weight: Tensor, bias: Tensor) -> None:
    network.head.projection.weight.copy_(weight)
    network.head.projection.bias.copy_(bias)
    round_weights(network.head)


@torch.no_grad()
def _set_statistics(part: nn.Module, network: DescriptorNetwork, batches: Batches) -> None:
    """The mean and variance of each of the part's layers become the average over the batches."""
    network.eval()
    norms = [layer for layer in part.modules() if isinstance(layer, nn.BatchNorm2d)]
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
