"""The descriptor network: pixels in, unit descriptors out."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pspsearch_build.network.backbone import Weights, build_backbone
from pspsearch_build.network.fusion import FUSIONS
from pspsearch_build.network.head import Head
from pspsearch_build.network.segmentation import SegmentationHead
from pspsearch_build.network.soft_start import soften
from pspsearch_build.network.spec import FusionName, NetworkSpec


class TrainingOutputs(NamedTuple):
    """The outputs of one forward pass of multi-task training."""

    outputs: tuple[Tensor, ...]
    """What `DescriptorNetwork.forward` returns."""
    logits: Tensor
    """[batch, classes, height_px, width_px] from the segmentation head."""
    auxiliary_logits: Tensor
    """The same, from the backbone's earlier map."""


class Trunk(nn.Module):
    """Backbone and fusion: the part that may be computed in half precision.

    `channels` counts the fused map's channels, followed by the backbone's own if the spec has the shortcut.
    """

    def __init__(self, spec: NetworkSpec, weights: Weights) -> None:
        super().__init__()
        self.backbone = build_backbone(spec, weights)
        none = spec.fusion is FusionName.NONE
        self.fusion = None if none else FUSIONS[spec.fusion](self.backbone.channels, spec)
        self._shortcut = spec.shortcut
        self.channels = (0 if none else spec.width) + (self.backbone.channels if spec.shortcut else 0)

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Maps a normalised picture [batch, 3, height_px, width_px] to the backbone's earlier map and the fused map."""
        early, last = self.backbone(picture)
        if self.fusion is None:
            return early, last
        fused = self.fusion(last)
        return early, torch.cat([fused, last], dim=1) if self._shortcut else fused


class DescriptorNetwork(nn.Module):
    """The network of one spec. Build it with `build_network`; its state dict does not depend on the input size."""

    scale: Tensor
    offset: Tensor

    def __init__(self, spec: NetworkSpec, weights: Weights = None) -> None:
        super().__init__()
        self.spec = spec
        self.trunk = Trunk(spec, weights)
        self.head = Head(self.trunk.channels, spec)
        classes, early_channels = spec.segmentation_classes, self.trunk.backbone.early_channels
        self.segmentation = SegmentationHead(self.trunk.channels, early_channels, spec) if classes else None
        # Not saved, because they follow from the spec.
        mean, std = torch.tensor(spec.mean).reshape(3, 1, 1), torch.tensor(spec.std).reshape(3, 1, 1)
        self.register_buffer("scale", 1 / (255 * std), persistent=False)
        self.register_buffer("offset", -mean / std, persistent=False)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Maps uint8 RGB [batch, height_px, width_px, 3] to the spec's outputs, all FP32 and of unit length.

        They are descriptors [batch, dimension] and, if the spec has cells, the cells' [batch, cells, dimension].
        """
        return self.head(self.fuse(pixels)[1])

    def fuse(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Maps pixels to the backbone's earlier map, in the trunk's precision, and the fused map, in FP32."""
        numbers = pixels.float()  # must come first: TensorRT accepts a uint8 input only into a cast
        picture = numbers.permute(0, 3, 1, 2) * self.scale + self.offset
        early, fused = self.trunk(picture.to(next(self.trunk.parameters()).dtype))
        return early, fused.float()

    def forward_multitask(self, pixels: Tensor) -> TrainingOutputs:
        """Descriptors and segmentation logits from one pass; only for a spec with segmentation classes."""
        assert self.segmentation is not None, "the spec has no segmentation classes"
        early, fused = self.fuse(pixels)
        return TrainingOutputs(self.head(fused), *self.segmentation(fused, early))


def build_network(spec: NetworkSpec, weights: Weights = None, seed: int = 0) -> DescriptorNetwork:
    """A new network in eval mode: its backbone as `weights` say, everything else random from `seed`.

    Does not disturb other random numbers.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = DescriptorNetwork(spec, weights)
    if weights is None:
        soften(network.trunk)
    return network.eval()
