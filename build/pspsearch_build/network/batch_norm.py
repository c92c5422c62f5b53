"""Convolutions and their BatchNorms: folded into one for inference, and rounded to what bf16 holds."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pspsearch_build.network.centred_stem import CENTRE, centred_layers


@dataclass(frozen=True, slots=True)
class NormedConvolution:
    """A convolution, the BatchNorm that follows it, and the module that holds both by name."""

    parent: nn.Module
    names: tuple[str, str]
    convolution: nn.Conv2d
    norm: nn.BatchNorm2d

    @property
    def scale(self) -> Tensor:
        """[channels out, 1, 1, 1]: by what the norm multiplies the convolution's weights in eval mode."""
        assert self.norm.running_var is not None
        return (self.norm.weight / (self.norm.running_var + self.norm.eps).sqrt()).reshape(-1, 1, 1, 1)


def normed_convolutions(module: nn.Module) -> Iterator[NormedConvolution]:
    """Every BatchNorm of the module with its convolution."""
    for parent in list(module.modules()):
        for (first, convolution), (second, norm) in pairwise(parent.named_children()):
            if isinstance(norm, nn.BatchNorm2d):
                assert isinstance(convolution, nn.Conv2d), f"{second} follows {first}, which is no convolution"
                yield NormedConvolution(parent, (first, second), convolution, norm)


def fold_batch_norms(module: nn.Module) -> None:
    """Folds every BatchNorm into its convolution, in place; only for eval mode."""
    for pair in normed_convolutions(module):
        setattr(pair.parent, pair.names[0], fuse_conv_bn_eval(pair.convolution, pair.norm))
        setattr(pair.parent, pair.names[1], nn.Identity())


@torch.no_grad()
def round_weights(module: nn.Module) -> None:
    """Rounds linear layers, and normed convolutions as they are once folded and centred, to bf16, in place.

    A rounded weight or bias errs the same way at every pixel, so pooling does not average it away: after fifty layers
    it has turned a descriptor by degrees. Rounding an activation is noise that pooling removes. So the weights are
    rounded once, in the network itself, and FP32, FP16 and bf16 then compute with the same weights (bf16's 8 bits fit
    into FP16's 11). Fit a whitening afterwards, and round again after weights or statistics change.
    """
    layers = centred_layers(module)
    for pair in normed_convolutions(module):
        weight, scale, norm = pair.convolution.weight, pair.scale, pair.norm
        bias = norm.bias - _shift(pair, layers)
        weight.copy_(torch.where(scale == 0, weight, (weight * scale).bfloat16() / scale))
        norm.bias.copy_(bias.bfloat16() + _shift(pair, layers))
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            layer.weight.copy_(layer.weight.bfloat16())
            layer.bias.copy_(layer.bias.bfloat16())


def _shift(pair: NormedConvolution, layers: tuple[nn.Module, nn.Module] | None) -> Tensor:
    """How much greater the norm's bias is than the bias of the folded and centred convolution."""
    assert pair.norm.running_mean is not None
    shift = pair.norm.running_mean * pair.scale.flatten()
    first, second = layers or (None, None)
    if pair.parent is first:
        shift += CENTRE
    elif pair.parent is second:
        shift -= CENTRE * (pair.convolution.weight * pair.scale).sum(dim=(1, 2, 3))
    return shift
