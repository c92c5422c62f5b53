"""EfficientNet-Lite: EfficientNet without squeeze-and-excitation and with ReLU6, which quantises and exports well."""

import math
import re
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

_STEM_CHANNELS, _LAST_CHANNELS = 32, 1280
_CHANNEL_STEP = 8


class _Stage(NamedTuple):
    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)
"""The stages of Lite0. The others are wider and deeper, but their first and last stages also have one block."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much wider and deeper than Lite0 a network is."""

    width: float
    depth: float


LITE0, LITE1, LITE2 = Scale(1.0, 1.0), Scale(1.0, 1.1), Scale(1.1, 1.2)

# The weights were trained with an epsilon of 1e-3; PyTorch's default is a hundredth of that.
_norm = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)
_convolve = partial(Conv2dNormActivation, norm_layer=_norm, activation_layer=nn.ReLU6, inplace=None)


class LiteBlock(nn.Module):
    """Expands pointwise, convolves depthwise, projects pointwise; adds its input if the shape is the same."""

    def __init__(self, channels: int, stage: _Stage) -> None:
        super().__init__()
        inner = channels * stage.expansion
        self.has_shortcut = stage.stride == 1 and channels == stage.channels
        self.steps = nn.Sequential(
            OrderedDict(
                ([("expand", _convolve(channels, inner, 1))] if stage.expansion > 1 else [])
                + [
                    ("depthwise", _convolve(inner, inner, stage.kernel, stage.stride, groups=inner)),
                    (
                        "project",
                        Conv2dNormActivation(inner, stage.channels, 1, norm_layer=_norm, activation_layer=None),
                    ),
                ]
            )
        )

    def forward(self, features: Tensor) -> Tensor:
        """Maps [batch, channels, height, width] to the stage's channels, at half the size with stride 2."""
        made = self.steps(features)
        return made + features if self.has_shortcut else made


class EfficientNetLite(nn.Module):
    """The convolutions of one size; `features` holds the stem, the blocks and the last pointwise convolution.

    `early` is how many of them come before the last stride, and `early_channels` how many channels they end with.
    """

    def __init__(self, scale: Scale) -> None:
        super().__init__()
        channels = _STEM_CHANNELS
        parts: list[nn.Module] = [_convolve(3, channels, 3, 2)]
        self.early, self.early_channels = 0, 0
        for place, stage in enumerate(_STAGES):
            if stage.stride == 2:
                self.early, self.early_channels = len(parts), channels
            fixed = place in {0, len(_STAGES) - 1}
            wider = stage._replace(channels=_widen(stage.channels, scale.width))
            for number in range(stage.blocks if fixed else math.ceil(stage.blocks * scale.depth)):
                parts.append(LiteBlock(channels, wider if number == 0 else wider._replace(stride=1)))
                channels = wider.channels
        parts.append(_convolve(channels, _LAST_CHANNELS, 1))
        self.features = nn.Sequential(*parts)
        self.channels = _LAST_CHANNELS


def _widen(channels: int, width: float) -> int:
    """The nearest multiple of 8 that is at most a tenth smaller."""
    wanted = channels * width
    rounded = int(wanted + _CHANNEL_STEP / 2) // _CHANNEL_STEP * _CHANNEL_STEP
    return rounded if rounded >= 0.9 * wanted else rounded + _CHANNEL_STEP


def rename(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Renames the tensors of the published files to the names here; leaves other files' tensors unchanged."""
    if "_conv_stem.weight" not in tensors:
        return tensors
    last = 2 + max(int(name.split(".")[1]) for name in tensors if name.startswith("_blocks."))
    return {_rename(name, last): tensor for name, tensor in tensors.items()}


def _rename(name: str, last: int) -> str:
    in_block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if in_block is not None and in_block[2] in _PLACES_IN_BLOCK:
        return f"features.{int(in_block[1]) + 1}.steps.{_PLACES_IN_BLOCK[in_block[2]]}.{in_block[3]}"
    layer, _, tensor = name.partition(".")
    places = {"_conv_stem": "0.0", "_bn0": "0.1", "_conv_head": f"{last}.0", "_bn1": f"{last}.1"}
    return (
        f"features.{places[layer]}.{tensor}" if layer in places else f"classifier.{tensor}" if layer == "_fc" else name
    )


_PLACES_IN_BLOCK = {
    "_expand_conv": "expand.0",
    "_bn0": "expand.1",
    "_depthwise_conv": "depthwise.0",
    "_bn1": "depthwise.1",
    "_project_conv": "project.0",
    "_bn2": "project.1",
}
