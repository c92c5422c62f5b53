"""How much work a network is."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pspsearch.model.contract import InputShape


def count_gflop(run: Callable[[Tensor], object], shape: InputShape) -> float:
    """Of one picture: a multiplication with its addition is two; only convolutions and products of matrices count."""
    pixels = torch.zeros(1, shape.height_px, shape.width_px, 3, dtype=torch.uint8)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run(pixels)
    return counter.get_total_flops() / 1e9
