"""The head, re-derived with plain loops."""

import math

import pytest
import torch
from torch import Tensor

from pspsearch.model.contract import InputShape
from pspsearch_build.network.head import Head
from pspsearch_build.network.spec import HeadName, NetworkSpec

BINS = (1, 2, 3)
SIZE = (5, 7)


def _head(name: HeadName) -> Head:
    """A head with other than the initial weights."""
    torch.manual_seed(0)
    spec = NetworkSpec(input=InputShape(80, 112), bins=BINS, width=6, head=name, dimension=128, cells=True)
    head = Head(6, spec).eval()
    with torch.no_grad():
        if head.part_weights is not None:
            head.part_weights.copy_(torch.randn(14))
    return head


def _fused() -> Tensor:
    return torch.rand(2, 6, *SIZE, generator=torch.Generator().manual_seed(1))


def _cell_windows(x: Tensor) -> list[Tensor]:
    """The pixels of every cell [batch, channels, pixels], level after level, row by row."""
    windows: list[Tensor] = []
    for cells in BINS:
        for row in range(cells):
            for column in range(cells):
                top, bottom = row * SIZE[0] // cells, -(-(row + 1) * SIZE[0] // cells)
                left, right = column * SIZE[1] // cells, -(-(column + 1) * SIZE[1] // cells)
                windows.append(x[:, :, top:bottom, left:right].flatten(2))
    return windows


def _gem(window: Tensor) -> Tensor:
    return (window**3).mean(dim=2) ** (1 / 3)


def _unit(head: Head, vectors: Tensor) -> Tensor:
    projected = vectors @ head.projection.weight.T + head.projection.bias
    return projected / projected.square().sum(dim=-1, keepdim=True).sqrt()


@torch.no_grad()
def test_parts_are_weighted_and_summed() -> None:
    """F(x) = sum of w_i f_i(x), where f_i is the fused map's average over cell i; 1e-5 is FP32's rounding."""
    head, fused = _head(HeadName.PARTS), _fused()
    assert head.part_weights is not None

    descriptor, cells = head(fused)

    parts = [window.mean(dim=2) for window in _cell_windows(fused)]
    total = torch.zeros(2, 6)
    for weight, part in zip(head.part_weights, parts, strict=True):
        total += weight * part
    torch.testing.assert_close(descriptor, _unit(head, total), atol=1e-5, rtol=0)
    torch.testing.assert_close(cells, _unit(head, torch.stack(parts, dim=1)), atol=1e-5, rtol=0)


@torch.no_grad()
def test_gem_is_the_generalised_mean_of_the_fused_map() -> None:
    """(mean of x^p)^(1/p) over the map, and over each cell for the cells; 1e-5 is FP32's rounding."""
    head, fused = _head(HeadName.GEM), _fused()

    descriptor, cells = head(fused)

    torch.testing.assert_close(descriptor, _unit(head, _gem(fused.flatten(2))), atol=1e-5, rtol=0)
    expected = torch.stack([_gem(window) for window in _cell_windows(fused)], dim=1)
    torch.testing.assert_close(cells, _unit(head, expected), atol=1e-5, rtol=0)


@torch.no_grad()
def test_both_heads_are_concatenated() -> None:
    """Parts come first, then GeM, with one projection over both."""
    head, fused = _head(HeadName.PARTS_GEM), _fused()
    assert head.part_weights is not None

    vectors, cells = head.pool(fused), head.pool_cells(fused)

    parts = torch.stack([window.mean(dim=2) for window in _cell_windows(fused)], dim=1)
    weighted = (parts * head.part_weights[None, :, None]).sum(dim=1)
    torch.testing.assert_close(vectors[:, :6], weighted, atol=1e-5, rtol=0)  # FP32's rounding
    torch.testing.assert_close(vectors[:, 6:], _gem(fused.flatten(2)), atol=1e-5, rtol=0)
    torch.testing.assert_close(cells[:, :, :6], parts, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_cell_of_the_whole_picture_is_the_descriptor_under_gem() -> None:
    """Bin 1 is the whole map, and the projection is the same; 1e-6 is FP32's rounding."""
    descriptor, cells = _head(HeadName.GEM)(_fused())

    torch.testing.assert_close(cells[:, 0], descriptor, atol=1e-6, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("name", HeadName)
@pytest.mark.parametrize("scale", [0.0, 1e-4, 1.0, 1e4])
def test_descriptors_have_unit_length(name: HeadName, scale: float) -> None:
    """This holds however large the map's values are, and for a map of zeros; 1e-5 is FP32's rounding."""
    descriptor, cells = _head(name)(_fused() * scale)

    torch.testing.assert_close(descriptor.norm(dim=-1), torch.ones(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(cells.norm(dim=-1), torch.ones(2, 14), atol=1e-5, rtol=0)


@torch.no_grad()
def test_at_first_the_middle_counts_most() -> None:
    """The finest level's weights add up to 1 and fall towards the border; the other levels start at 0."""
    spec = NetworkSpec(bins=BINS, head=HeadName.PARTS)

    weights = Head(4, spec).part_weights

    assert weights is not None
    assert [float(part.sum()) for part in torch.split(weights, [1, 4, 9])] == pytest.approx([0, 0, 1])
    finest = weights[-9:].reshape(3, 3)
    assert torch.equal(finest, finest.T)
    assert float(finest[0, 1] / finest[1, 1]) == pytest.approx(math.exp(-((1 / 3 / 0.375) ** 2) / 2))
