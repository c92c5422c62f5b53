"""Convolution, BatchNorm and ReLU, as every part after the backbone uses them."""

from torch import nn

from pspsearch_build.network.spec import ConvolutionKind


def pointwise(channels: int, width: int) -> nn.Sequential:
    """A 1x1 convolution, BatchNorm, ReLU."""
    return nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())


def spatial(channels: int, width: int, kind: ConvolutionKind, dilation: int = 1) -> nn.Sequential:
    """A 3x3 convolution that keeps the map's size, BatchNorm, ReLU; depthwise-separable if `kind` says so."""
    if kind is ConvolutionKind.FULL:
        convolution = nn.Conv2d(channels, width, 3, padding=dilation, dilation=dilation, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU())
    depthwise = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, groups=channels, bias=False)
    return nn.Sequential(depthwise, nn.BatchNorm2d(channels), nn.ReLU(), *pointwise(channels, width))
