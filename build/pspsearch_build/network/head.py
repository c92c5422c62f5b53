"""Turns the fused map into unit descriptors.

The head is always computed in FP32: powers, sums over the map and the norm do not survive half precision, and the
whole head is a hundredth of the network's work.
"""

import torch
from torch import Tensor, nn

from pspsearch_build.network.pyramid import pooling_matrix
from pspsearch_build.network.spec import HeadName, NetworkSpec

_SMALLEST = 1e-6
"""The least value that counts as itself, because GeM's powers and their gradient need positive numbers."""

_SPREAD = 0.375
"""The distance from the middle, as a share of the map's side, at which a cell's first weight is .61 of the middle's."""


class GeM(nn.Module):
    """Generalised mean: (sum of w_i x_i^3)^(1/3) over the map's pixels, between the average and the maximum.

    The power is a whole number because CPUs compute x^3 as two products, but any other power one number at a time. A
    learned power came out as 2.89, found nothing better, and took a sixth of the whole network's time.
    """

    def forward(self, flat: Tensor, pooling: Tensor) -> Tensor:
        """Maps [batch, channels, pixels] and pooling weights [pixels, windows] to [batch, channels, windows]."""
        return (flat.clamp_min(_SMALLEST).pow(3) @ pooling).pow(1 / 3)


class Head(nn.Module):
    """Pools the fused map into one vector, and into one per pyramid cell, and projects them to unit descriptors.

    A cell's vector is made like the whole picture's: with parts it is f_i, the average over the cell; with GeM it is
    the cell's generalised mean. So one projection serves both, and under `gem` the cell of bin 1 is the descriptor.
    """

    pooling: Tensor
    average: Tensor

    def __init__(self, channels: int, spec: NetworkSpec) -> None:
        super().__init__()
        height, width = spec.map_size
        self._flat = (channels, height * width)
        self._cells = spec.cell_count if spec.cells else 0
        self.part_weights = nn.Parameter(_central(spec)) if spec.head is not HeadName.GEM else None
        self.gem = GeM() if spec.head is not HeadName.PARTS else None
        self.dropout = nn.Dropout(spec.dropout)
        self.projection = nn.Linear(channels * (2 if spec.head is HeadName.PARTS_GEM else 1), spec.dimension)
        # Not saved: the matrices follow from the sizes, and weights move between input sizes.
        self.register_buffer("pooling", pooling_matrix(spec.map_size, spec.bins), persistent=False)
        self.register_buffer("average", pooling_matrix(spec.map_size, (1,)), persistent=False)

    def forward(self, fused: Tensor) -> tuple[Tensor, ...]:
        """Maps [batch, channels, height, width] to descriptors [batch, dimension] and, if asked for, cells.

        Cells are [batch, cells, dimension], level after level, row by row.
        """
        descriptor = self.describe(self.pool(fused))
        if not self._cells:
            return (descriptor,)
        # Also a matrix, so that an exported file holds one projection for both, under its own name.
        rows = self.pool_cells(fused).reshape(-1, self.projection.in_features)
        return descriptor, self.describe(rows).reshape(-1, self._cells, self.projection.out_features)

    def pool(self, fused: Tensor) -> Tensor:
        """Maps [batch, channels, height, width] to the vectors [batch, inputs of the projection]."""
        flat = fused.reshape(-1, *self._flat)
        vectors: list[Tensor] = []
        if self.part_weights is not None:
            vectors.append((flat @ self.pooling) @ self.part_weights)
        if self.gem is not None:
            vectors.append(self.gem(flat, self.average).squeeze(-1))
        return torch.cat(vectors, dim=-1)

    def pool_cells(self, fused: Tensor) -> Tensor:
        """Maps [batch, channels, height, width] to the cells' vectors [batch, cells, inputs of the projection]."""
        flat = fused.reshape(-1, *self._flat)
        vectors: list[Tensor] = []
        if self.part_weights is not None:
            vectors.append(flat @ self.pooling)
        if self.gem is not None:
            vectors.append(self.gem(flat, self.pooling))
        return torch.cat(vectors, dim=1).transpose(1, 2)

    def describe(self, vectors: Tensor) -> Tensor:
        """Maps pooled vectors [.., inputs] to unit descriptors [.., dimension]."""
        projected = self.projection(self.dropout(vectors))
        return projected / projected.square().sum(dim=-1, keepdim=True).clamp_min(_SMALLEST**2).sqrt()


def _central(spec: NetworkSpec) -> Tensor:
    """The first weights: only the finest level counts, most in the middle, which is where things stand.

    Their sum is 1. Training finds what the other levels are worth.
    """
    finest = spec.bins[-1]
    place = (torch.arange(finest) + 0.5) / finest - 0.5
    across = torch.exp(-place.square() / (2 * _SPREAD**2))
    cells = torch.outer(across, across).flatten()
    weights = torch.zeros(spec.cell_count)
    weights[-len(cells) :] = cells / cells.sum()
    return weights
