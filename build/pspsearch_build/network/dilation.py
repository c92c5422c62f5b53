"""Trades stride for dilation, so that a backbone makes a finer map with the weights it has."""

from collections.abc import Sequence
from typing import cast

from torch import nn


def dilate(blocks: Sequence[nn.Module], output_stride: int) -> None:
    """Removes every stride beyond `output_stride` from the blocks, in place, and dilates what follows.

    Every second (or fourth) pixel of the finer map is the map of the strided network. A block's strided convolutions
    run in parallel (main path and shortcut), so a block halves the map once.
    """
    stride, dilation = 1, 1
    for block in blocks:
        layers = [layer for layer in block.modules() if isinstance(layer, nn.Conv2d | nn.MaxPool2d)]
        if all(_stride(layer) == 1 for layer in layers):
            _dilate_layers(layers, dilation)
        elif stride < output_stride:
            stride *= 2
        else:
            dilation = _unstride(layers, dilation)
    assert stride == output_stride, f"the blocks reach stride {stride}, not {output_stride}"


def _unstride(layers: list[nn.Conv2d | nn.MaxPool2d], dilation: int) -> int:
    """Removes the stride and returns the doubled dilation, which the convolutions after the strided one get."""
    first = next(place for place, layer in enumerate(layers) if _stride(layer) == 2 and layer.kernel_size != (1, 1))
    for layer in layers:
        layer.stride = (1, 1)
    _dilate_layers(layers[: first + 1], dilation)
    _dilate_layers(layers[first + 1 :], 2 * dilation)
    return 2 * dilation


def _dilate_layers(layers: list[nn.Conv2d | nn.MaxPool2d], dilation: int) -> None:
    for layer in layers:
        if isinstance(layer, nn.MaxPool2d):
            assert dilation == 1, "pooling comes before any stride is removed"
        elif layer.kernel_size != (1, 1):
            reach = layer.kernel_size[0] // 2
            layer.dilation = (dilation, dilation)
            layer.padding = (dilation * reach, dilation * reach)


def _stride(layer: nn.Conv2d | nn.MaxPool2d) -> int:
    """The layer's stride; convolutions hold a pair, pooling a number."""
    return layer.stride if isinstance(layer.stride, int) else cast(tuple[int, int], layer.stride)[0]
