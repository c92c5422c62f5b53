"""The three fusions, re-derived from their formulas with plain loops."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pspsearch.model.contract import InputShape
from pspsearch_build.network.fusion import FUSIONS, ConcatFusion, DilatedFusion, SumConcatFusion
from pspsearch_build.network.spec import ConvolutionKind, FusionName, NetworkSpec

TOLERANCE = 1e-4
"""The tolerance of sums of some thousand FP32 products in another order."""


def _spec(bottleneck: ConvolutionKind) -> NetworkSpec:
    return NetworkSpec(input=InputShape(112, 144), width=5, bottleneck=bottleneck, dilations=3)


def _input() -> Tensor:
    return torch.randn(2, 8, 7, 9, generator=torch.Generator().manual_seed(1))


def _normed(layers: nn.Sequential, first: int, x: Tensor, padding: int) -> Tensor:
    """Convolution, BatchNorm and ReLU of the layers from `first`, written out."""
    convolution, norm = layers[first], layers[first + 1]
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    y = functional.conv2d(x, convolution.weight, padding=padding, dilation=max(padding, 1), groups=convolution.groups)
    out = torch.empty_like(y)
    for channel in range(y.shape[1]):
        deviation = (norm.running_var[channel] + norm.eps).sqrt()
        standard = (y[:, channel] - norm.running_mean[channel]) / deviation
        out[:, channel] = (standard * norm.weight[channel] + norm.bias[channel]).clamp_min(0)
    return out


def _spatial(layers: nn.Sequential, x: Tensor, dilation: int = 1) -> Tensor:
    """A full 3x3 convolution, or a depthwise one followed by a pointwise one."""
    y = _normed(layers, 0, x, padding=dilation)
    return y if len(layers) == 3 else _normed(layers, 3, y, padding=0)


def _levels(levels: nn.ModuleList, x: Tensor, bins: tuple[int, ...]) -> list[Tensor]:
    found: list[Tensor] = []
    for layers, cells in zip(levels, bins, strict=True):
        assert isinstance(layers, nn.Sequential)
        pooled = _normed(layers, 0, functional.adaptive_avg_pool2d(x, cells), padding=0)
        found.append(functional.interpolate(pooled, size=x.shape[2:], mode="bilinear", align_corners=True))
    return found


@pytest.mark.parametrize("bottleneck", ConvolutionKind)
def test_concat_is_the_bottleneck_of_map_and_levels(bottleneck: ConvolutionKind) -> None:
    """F = Bottleneck(Concat(X, P_1(X)..P_N(X)))."""
    torch.manual_seed(0)
    spec, x = _spec(bottleneck), _input()
    fusion = ConcatFusion(8, spec).eval()

    fused = fusion(x)

    expected = _spatial(fusion.bottleneck, torch.cat([x, *_levels(fusion.pyramid.levels, x, spec.bins)], dim=1))
    torch.testing.assert_close(fused, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("bottleneck", ConvolutionKind)
def test_sum_concat_adds_the_levels_and_their_projection(bottleneck: ConvolutionKind) -> None:
    """F = sum of F_i + Projection(Concat(F_1..F_N))."""
    torch.manual_seed(0)
    spec, x = _spec(bottleneck), _input()
    fusion = SumConcatFusion(8, spec).eval()

    fused = fusion(x)

    levels = _levels(fusion.pyramid.levels, x, spec.bins)
    expected = _spatial(fusion.bottleneck, torch.cat(levels, dim=1))
    for level in levels:
        expected = expected + level
    torch.testing.assert_close(fused, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("bottleneck", ConvolutionKind)
def test_dilated_adds_levels_and_dilated_convolutions(bottleneck: ConvolutionKind) -> None:
    """F = sum over j of P_j(X) + sum over d of C_d(X), d from 1 to D."""
    torch.manual_seed(0)
    spec, x = _spec(bottleneck), _input()
    fusion = DilatedFusion(8, spec).eval()

    fused = fusion(x)

    expected = torch.zeros(2, 5, 7, 9)
    for level in _levels(fusion.pyramid.levels, x, spec.bins):
        expected += level
    for rate, layers in enumerate(fusion.convolutions, start=1):
        assert isinstance(layers, nn.Sequential)
        expected += _spatial(layers, x, dilation=rate)
    assert len(fusion.convolutions) == spec.dilations
    torch.testing.assert_close(fused, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", FUSIONS)
def test_a_fused_map_is_as_large_as_the_backbones(name: FusionName) -> None:
    """Whatever the fusion, the head receives `width` channels at the map's size."""
    fused = FUSIONS[name](8, _spec(ConvolutionKind.SEPARABLE)).eval()(_input())

    assert fused.shape == (2, 5, 7, 9)
