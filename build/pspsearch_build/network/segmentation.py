"""PSPNet's own prediction layers, used only in training and never exported."""

from torch import Tensor, nn
from torch.nn import functional

from pspsearch_build.network.convolution import spatial
from pspsearch_build.network.spec import ConvolutionKind, NetworkSpec


class SegmentationHead(nn.Module):
    """Class logits from the fused map, and from the backbone's earlier map for the auxiliary loss."""

    def __init__(self, channels: int, early_channels: int, spec: NetworkSpec) -> None:
        super().__init__()
        self._size = (spec.input.height_px, spec.input.width_px)
        classes, auxiliary_width = spec.segmentation_classes, max(early_channels // 4, 32)
        self.prediction = nn.Sequential(nn.Dropout(spec.dropout), nn.Conv2d(channels, classes, 1))
        self.auxiliary = nn.Sequential(
            *spatial(early_channels, auxiliary_width, ConvolutionKind.FULL),
            nn.Dropout(spec.dropout),
            nn.Conv2d(auxiliary_width, classes, 1),
        )

    def forward(self, fused: Tensor, early: Tensor) -> tuple[Tensor, Tensor]:
        """Maps the two maps to logits and auxiliary logits, both [batch, classes, height_px, width_px] of the input."""
        return self._enlarge(self.prediction(fused)), self._enlarge(self.auxiliary(early))

    def _enlarge(self, logits: Tensor) -> Tensor:
        return functional.interpolate(logits, size=self._size, mode="bilinear", align_corners=True)
