"""Counts how much work a network does."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pspsearch.model.contract import InputShape


def count_gflop(run: Callable[[Tensor], object], shape: InputShape) -> float:
    """The work of one picture. A multiply-add is two operations; only convolutions and matrix products count."""
    pixels = torch.zeros(1, shape.height_px, shape.width_px, 3, dtype=torch.uint8)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run(pixels)
    return counter.get_total_flops() / 1e9
