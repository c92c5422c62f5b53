"""Random weights under which a deep network keeps different pictures apart and similar ones together.

The usual random weights scramble: after fifty layers, two views of one picture have as little in common as two
pictures. This does not help a network that is trained anyway; it makes an untrained one meaningful.
"""

import torch
from torch import nn
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.models.resnet import BasicBlock, Bottleneck

from pspsearch_build.network.efficientnet_lite import LiteBlock

_BRANCH_SHARE = 0.1
"""The weight of a residual branch beside its shortcut, at the start."""


@torch.no_grad()
def soften(trunk: nn.Module) -> None:
    """Makes depthwise kernels blur and damps residual branches, in place."""
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            module.weight.abs_()
        last = _last_norm(module)
        if last is not None:
            last.weight.fill_(_BRANCH_SHARE)


def _last_norm(block: nn.Module) -> nn.BatchNorm2d | None:
    """The BatchNorm that ends a residual branch; None if the module is not a residual block."""
    if isinstance(block, InvertedResidual) and block.use_res_connect:
        last = block.conv[-1]
        assert isinstance(last, nn.BatchNorm2d)
        return last
    if isinstance(block, LiteBlock) and block.has_shortcut:
        last = block.steps.get_submodule("project.1")
        assert isinstance(last, nn.BatchNorm2d)
        return last
    if isinstance(block, Bottleneck):
        return block.bn3
    return block.bn2 if isinstance(block, BasicBlock) else None
