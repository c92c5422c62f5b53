"""TensorFlow's SAME padding, for weights that were trained with it."""

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional


class SameConv2d(nn.Conv2d):
    """A convolution that takes over another's parameters and first pads its input with the given zeros."""

    def __init__(self, convolution: nn.Conv2d, pads: tuple[int, int, int, int]) -> None:
        super().__init__(
            convolution.in_channels,
            convolution.out_channels,
            (convolution.kernel_size[0], convolution.kernel_size[1]),
            stride=(convolution.stride[0], convolution.stride[1]),
            groups=convolution.groups,
            bias=convolution.bias is not None,
        )
        self.weight, self.bias = convolution.weight, convolution.bias
        self._pads = pads

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.Conv2d calls it so
        """Pads by (left, right, top, bottom), then convolves."""
        return super().forward(functional.pad(input, self._pads))


def pad_same(blocks: Sequence[nn.Module], size: tuple[int, int]) -> None:
    """Gives every strided convolution of the blocks SAME padding, in place, for an input of (height, width) pixels.

    Leaves convolutions of stride 1 unchanged: for them SAME is symmetric, dilated or not.
    """
    height, width = size
    for parent in [module for block in blocks for module in block.modules()]:
        for name, layer in parent.named_children():
            if isinstance(layer, nn.Conv2d) and layer.stride[0] > 1:
                pads = (*_line_pads(width, layer), *_line_pads(height, layer))
                setattr(parent, name, SameConv2d(layer, pads))
                height, width = math.ceil(height / layer.stride[0]), math.ceil(width / layer.stride[0])


def _line_pads(pixels: int, layer: nn.Conv2d) -> tuple[int, int]:
    """The zeros before and after a line; an odd one goes after it."""
    stride, kernel = layer.stride[0], layer.kernel_size[0]
    total = max((math.ceil(pixels / stride) - 1) * stride + kernel - pixels, 0)
    return total // 2, total - total // 2
