"""Pyramid pooling as matrix products."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from pspsearch_build.network.pyramid import PyramidPooling, pooling_matrix, spreading_matrix

SIDE = st.integers(1, 40)


@settings(max_examples=200, deadline=None)
@given(height=SIDE, width=SIDE, bins=st.lists(st.integers(1, 9), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_the_product_is_adaptive_average_pooling(height: int, width: int, bins: list[int], seed: int) -> None:
    """This holds at any map size and any bins, divisible or not; 1e-5 is FP32's rounding of some hundred values."""
    x = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(seed))

    pooled = x.flatten(2) @ pooling_matrix((height, width), tuple(bins))

    expected = torch.cat([functional.adaptive_avg_pool2d(x, cells).flatten(2) for cells in bins], dim=2)
    torch.testing.assert_close(pooled, expected, atol=1e-5, rtol=0)


@settings(max_examples=100, deadline=None)
@given(height=SIDE, width=SIDE, cells=st.integers(1, 9), seed=st.integers(0, 99))
def test_the_product_is_bilinear_upsampling(height: int, width: int, cells: int, seed: int) -> None:
    """Corners are aligned; 1e-5 is FP32's rounding."""
    level = torch.randn(2, 3, cells, cells, generator=torch.Generator().manual_seed(seed))

    spread = level.flatten(2) @ spreading_matrix(cells, (height, width))

    expected = functional.interpolate(level, size=(height, width), mode="bilinear", align_corners=True)
    torch.testing.assert_close(spread, expected.flatten(2), atol=1e-5, rtol=0)


def test_the_levels_are_those_of_pspnet() -> None:
    """Pool, 1x1 convolution with BatchNorm and ReLU, upsample: level by level, as in the paper."""
    torch.manual_seed(0)
    pyramid = PyramidPooling(channels=6, width=4, bins=(1, 2, 3, 6), size=(7, 10)).eval()
    x = torch.randn(2, 6, 7, 10)

    levels = pyramid(x)

    for level, convolution, cells in zip(levels, pyramid.levels, (1, 2, 3, 6), strict=True):
        pooled = convolution(functional.adaptive_avg_pool2d(x, cells))
        expected = functional.interpolate(pooled, size=(7, 10), mode="bilinear", align_corners=True)
        torch.testing.assert_close(level, expected, atol=1e-5, rtol=0)  # the same sums in another order


def test_weights_do_not_depend_on_the_map_size() -> None:
    """Weights saved at one input size fit any other."""
    small = PyramidPooling(channels=6, width=4, bins=(1, 2), size=(4, 4))
    large = PyramidPooling(channels=6, width=4, bins=(1, 2), size=(9, 14))

    assert {name: tensor.shape for name, tensor in small.state_dict().items()} == {
        name: tensor.shape for name, tensor in large.state_dict().items()
    }
