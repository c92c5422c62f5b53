"""Pyramid pooling as matrix products: the same numbers as adaptive pooling, at any map size, in any runtime.

`adaptive_avg_pool2d` exports to ONNX only if the bins divide the map's size. A pooled cell is a weighted sum of the
map's pixels, with weights that depend on sizes only. So pooling is one product with a fixed matrix, and so is
upsampling a level to the map.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from pspsearch_build.network.convolution import pointwise

Size = tuple[int, int]


def window_weights(pixels: int, cells: int) -> Tensor:
    """[cells, pixels]: row i averages the window floor(i*pixels/cells) to ceil((i+1)*pixels/cells) of a line."""
    weights = torch.zeros(cells, pixels)
    for cell in range(cells):
        start, end = cell * pixels // cells, -(-(cell + 1) * pixels // cells)
        weights[cell, start:end] = 1 / (end - start)
    return weights


def pooling_matrix(size: Size, bins: tuple[int, ...]) -> Tensor:
    """[pixels of the map, cells of all levels]: average pooling into bins x bins windows, level after level.

    Pixels and cells are counted row by row. A window is a rectangle, so its weights are an outer product.
    """
    height, width = size
    levels = [torch.kron(window_weights(height, cells), window_weights(width, cells)) for cells in bins]
    return torch.cat(levels).T.contiguous()


def spreading_matrix(cells: int, size: Size) -> Tensor:
    """[cells * cells, pixels of the map]: bilinear upsampling of one level with aligned corners, as in PSPNet."""
    each_cell = torch.eye(cells * cells).reshape(cells * cells, 1, cells, cells)
    spread = functional.interpolate(each_cell, size=size, mode="bilinear", align_corners=True)
    return spread.reshape(cells * cells, size[0] * size[1])


class PyramidPooling(nn.Module):
    """The pyramid's levels P_j(X): pooled to bins, 1x1 convolution with BatchNorm and ReLU, upsampled to the map."""

    pooling: Tensor

    def __init__(self, channels: int, width: int, bins: tuple[int, ...], size: Size) -> None:
        super().__init__()
        self._channels, self._width, self._bins, self._size = channels, width, bins, size
        self.levels = nn.ModuleList(pointwise(channels, width) for _ in bins)
        # Not saved: the matrices follow from the sizes, and weights move between input sizes.
        self.register_buffer("pooling", pooling_matrix(size, bins), persistent=False)
        for cells in bins:
            self.register_buffer(f"spreading_{cells}", spreading_matrix(cells, size), persistent=False)

    def forward(self, pixels_map: Tensor) -> list[Tensor]:
        """Maps [batch, channels, height, width] to one such map of `width` channels per level."""
        flat = pixels_map.reshape(-1, self._channels, self._size[0] * self._size[1])
        pooled = torch.split(flat @ self.pooling, [cells * cells for cells in self._bins], dim=-1)
        return [
            self._spread(level(part.reshape(-1, self._channels, cells, cells)), cells)
            for level, part, cells in zip(self.levels, pooled, self._bins, strict=True)
        ]

    def _spread(self, level: Tensor, cells: int) -> Tensor:
        flat = level.reshape(-1, self._width, cells * cells)
        return (flat @ self.get_buffer(f"spreading_{cells}")).reshape(-1, self._width, *self._size)
