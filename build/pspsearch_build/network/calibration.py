"""Makes a network usable before any training: takes its statistics and its projection from pictures."""

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
"""Batches of pixels [batch, height_px, width_px, 3]."""

_STATISTICS_PICTURES = 128
"""Enough for BatchNorm, because every pixel of a map counts."""


def begin(network: DescriptorNetwork, batches: Batches, weights: Weights) -> None:
    """Prepares a new network: compresses a backbone with trained weights, calibrates a random one."""
    if weights is None:
        calibrate(network, batches)
    else:
        channels = network.trunk.backbone.channels
        compress(network, batches, read_classifier(weights, channels) if isinstance(weights, Path) else None)


def calibrate(network: DescriptorNetwork, batches: Batches) -> None:
    """Makes random weights usable, in place; needs pixels of more pictures than the descriptor has dimensions.

    Sets BatchNorm's running statistics, rounds the weights for half precision, and makes the projection a whitening of
    the pooled vectors, so that descriptors of different pictures are orthogonal on average. Weak directions are noisy
    in half precision, hence the strong shrinkage (`fit_whitening`). Leaves the network in eval mode.
    """
    _require_pictures(network, batches)
    _set_statistics(network.trunk, network, batches)
    _whiten(network, batches)


def compress(network: DescriptorNetwork, batches: Batches, directions: Tensor | None = None) -> None:
    """Makes a network as good as its trained backbone, in fewer numbers; in place, as `calibrate`.

    The projection keeps the strongest directions of the backbone's pooled vectors (`fit_compression`). The fusion is
    random before training, so its channels get weight 0; if the head sees only the fusion, the projection is a
    whitening. `directions` [count, channels of the backbone] are further directions that matter to the backbone.
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
    """The projection's input for every picture, after rounding the weights to what half precision holds."""
    round_weights(network.trunk)
    return torch.cat([_pool(network, pixels) for pixels in batches])


@torch.no_grad()
def _set_projection(network: DescriptorNetwork, weight: Tensor, bias: Tensor) -> None:
    network.head.projection.weight.copy_(weight)
    network.head.projection.bias.copy_(bias)
    round_weights(network.head)


@torch.no_grad()
def _set_statistics(part: nn.Module, network: DescriptorNetwork, batches: Batches) -> None:
    """Sets the mean and variance of each of the part's BatchNorms to the average over the batches."""
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
    """The projection's input for a batch of pictures."""
    return network.head.pool(network.fuse(torch.from_numpy(pixels))[1])
