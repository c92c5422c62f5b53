"""Fuses the backbone's map X and its pyramid into one map."""

from collections.abc import Callable
from functools import reduce
from operator import add

import torch
from torch import Tensor, nn

from pspsearch_build.network.convolution import spatial
from pspsearch_build.network.pyramid import PyramidPooling
from pspsearch_build.network.spec import FusionName, NetworkSpec


class ConcatFusion(nn.Module):
    """PSPNet: Bottleneck(Concat(X, P_1(X)..P_N(X))), where each of the N levels has 1/N of X's channels."""

    def __init__(self, channels: int, spec: NetworkSpec) -> None:
        super().__init__()
        level_width = channels // len(spec.bins)
        self.pyramid = PyramidPooling(channels, level_width, spec.bins, spec.map_size)
        self.bottleneck = spatial(channels + level_width * len(spec.bins), spec.width, spec.bottleneck)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [batch, channels, height, width] to [batch, width, height, width]."""
        return self.bottleneck(torch.cat([x, *self.pyramid(x)], dim=1))


class SumConcatFusion(nn.Module):
    """F = F_1 + .. + F_N + Bottleneck(Concat(F_1..F_N)), with F_i = P_i(X)."""

    def __init__(self, channels: int, spec: NetworkSpec) -> None:
        super().__init__()
        self.pyramid = PyramidPooling(channels, spec.width, spec.bins, spec.map_size)
        self.bottleneck = spatial(spec.width * len(spec.bins), spec.width, spec.bottleneck)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [batch, channels, height, width] to [batch, width, height, width]."""
        levels = self.pyramid(x)
        return reduce(add, levels) + self.bottleneck(torch.cat(levels, dim=1))


class DilatedFusion(nn.Module):
    """F = P_1(X) + .. + P_N(X) + C_1(X) + .. + C_D(X), with C_d a 3x3 convolution of dilation d."""

    def __init__(self, channels: int, spec: NetworkSpec) -> None:
        super().__init__()
        self.pyramid = PyramidPooling(channels, spec.width, spec.bins, spec.map_size)
        rates = range(1, spec.dilations + 1)
        self.convolutions = nn.ModuleList(spatial(channels, spec.width, spec.bottleneck, rate) for rate in rates)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [batch, channels, height, width] to [batch, width, height, width]."""
        return reduce(add, [*self.pyramid(x), *(convolution(x) for convolution in self.convolutions)])


FUSIONS: dict[FusionName, Callable[[int, NetworkSpec], nn.Module]] = {
    FusionName.CONCAT: ConcatFusion,
    FusionName.SUM_CONCAT: SumConcatFusion,
    FusionName.DILATED: DilatedFusion,
}
