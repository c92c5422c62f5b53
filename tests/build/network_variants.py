"""Specs that together cover every choice of the network.

Fusion, head, bottleneck, output stride and cells are covered in pairs: each value of one occurs with each value of
the others (`test_network_spec` checks it). Every backbone, padding, dimension, segmentation and a map that the bins do
not divide also occur. Widths and inputs are small.

FEW of them cover every single choice, and every kind of block in a backbone. Tests that take seconds each use only
those, and use the others in `make slow`.
"""

from pspsearch.model.contract import InputShape
from pspsearch_build.network.spec import (
    BackboneName,
    ConvolutionKind,
    FusionName,
    HeadName,
    NetworkSpec,
    Padding,
)

SMALL = {"mobilenet_v2", "efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"}
"""The backbones whose own channels the head also sees."""


def _variant(
    backbone: str, fusion: str, head: str, bottleneck: str, stride: int, cells: bool, side_px: int, dimension: int = 128
) -> NetworkSpec:
    return NetworkSpec(
        backbone=BackboneName(backbone),
        output_stride=stride,
        padding=Padding.SAME if backbone in SMALL and stride == 8 else Padding.SYMMETRIC,
        input=InputShape(side_px, side_px + 16),
        fusion=FusionName(fusion),
        bottleneck=ConvolutionKind(bottleneck),
        dilations=2,
        width=128,
        head=HeadName(head),
        dimension=dimension,
        shortcut=backbone in SMALL,
        cells=cells,
        segmentation_classes=3 if backbone == "resnet18" else 0,
    )


VARIANTS = {
    f"{spec.backbone}-{spec.fusion}-{spec.head}-{spec.bottleneck}-{spec.output_stride}": spec
    for spec in (
        _variant("mobilenet_v2", "concat", "parts_gem", "separable", 16, True, 96, 256),
        _variant("mobilenet_v2", "sum_concat", "gem", "full", 8, True, 80),
        _variant("resnet18", "concat", "parts", "full", 8, False, 64),
        _variant("efficientnet_lite0", "dilated", "gem", "separable", 8, False, 64),
        _variant("resnet34", "sum_concat", "parts_gem", "full", 16, False, 64),
        _variant("efficientnet_lite1", "dilated", "parts", "full", 16, True, 80),
        _variant("resnet50", "sum_concat", "parts", "separable", 16, True, 64),
        _variant("resnet18", "dilated", "parts_gem", "full", 8, False, 64),
        _variant("efficientnet_lite2", "none", "parts", "separable", 16, True, 64, 512),
        _variant("mobilenet_v2", "none", "gem", "full", 8, False, 64),
        _variant("mobilenet_v2", "none", "parts_gem", "full", 8, True, 64),
        _variant("resnet101", "concat", "gem", "separable", 16, False, 64),
    )
}

FEW = (
    "mobilenet_v2-concat-parts_gem-separable-16",
    "mobilenet_v2-sum_concat-gem-full-8",
    "efficientnet_lite2-none-parts-separable-16",
    "resnet18-dilated-parts_gem-full-8",
    "resnet50-sum_concat-parts-separable-16",
)
"""The variants by name."""
