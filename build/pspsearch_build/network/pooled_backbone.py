"""A backbone without its classifier and with nothing learnt after it: the baseline for every descriptor."""

from enum import StrEnum
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional

from pspsearch.model.contract import Fit, InputShape
from pspsearch_build.network.backbone import build_backbone, recognise
from pspsearch_build.network.spec import NetworkSpec, Padding

_HALF = (0.5, 0.5, 0.5)
_RESIZED_PX, _CUT_PX = 256, 224
_POWER = 3.0
"""The power of GeM before any training."""


class Pooling(StrEnum):
    """How the last map becomes one vector."""

    AVERAGE = "average"
    GEM = "gem"


class PooledBackbone(nn.Module):
    """A pooled backbone from TensorFlow's weights, with the crop that such weights expect; in eval mode."""

    shape = InputShape(_RESIZED_PX, _RESIZED_PX, Fit.CROP)

    def __init__(self, weights: Path, pooling: Pooling) -> None:
        super().__init__()
        self.name = recognise(weights)
        self._pooling = pooling
        cut = InputShape(_CUT_PX, _CUT_PX)
        spec = NetworkSpec(backbone=self.name, output_stride=32, padding=Padding.SAME, input=cut, mean=_HALF, std=_HALF)
        self.backbone = build_backbone(spec, weights)
        self.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        """Maps uint8 RGB [batch, height_px, width_px, 3] to unit rows [batch, channels]."""
        middle = slice((_RESIZED_PX - _CUT_PX) // 2, (_RESIZED_PX + _CUT_PX) // 2)
        last = self.backbone(pixels[:, middle, middle].permute(0, 3, 1, 2).float() / 127.5 - 1)[1].float()
        if self._pooling is Pooling.GEM:
            last = last.clamp_min(1e-6).pow(_POWER)
            return functional.normalize(last.mean((2, 3)).pow(1 / _POWER))
        return functional.normalize(last.mean((2, 3)))
