"""What a descriptor network is made of; saved with the weights and in every exported file."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, Self, cast

from pspsearch.errors import RepositoryError
from pspsearch.model.contract import CELLS, DESCRIPTOR, Fit, InputShape
from pspsearch_build.errors import BuildError

Triple = tuple[float, float, float]


class BackboneName(StrEnum):
    """The convolutional network under the pyramid."""

    MOBILENET_V2 = "mobilenet_v2"
    """Small enough for a CPU."""
    EFFICIENTNET_LITE0 = "efficientnet_lite0"
    """As small, and newer; without squeeze-and-excitation."""
    EFFICIENTNET_LITE1 = "efficientnet_lite1"
    EFFICIENTNET_LITE2 = "efficientnet_lite2"
    RESNET18 = "resnet18"
    RESNET34 = "resnet34"
    RESNET50 = "resnet50"
    RESNET101 = "resnet101"


class Padding(StrEnum):
    """How the backbone's strided convolutions pad; it must be how the weights were trained."""

    SYMMETRIC = "symmetric"
    """PyTorch's padding: the same on every side."""
    SAME = "same"
    """TensorFlow's padding: an even map is padded only at the bottom and on the right."""


OUT_OF_TENSORFLOW = {
    BackboneName.MOBILENET_V2,
    BackboneName.EFFICIENTNET_LITE0,
    BackboneName.EFFICIENTNET_LITE1,
    BackboneName.EFFICIENTNET_LITE2,
}
"""The backbones whose published weights were trained with TensorFlow's padding."""


class FusionName(StrEnum):
    """How the pyramid's levels and the backbone's map become one fused map."""

    CONCAT = "concat"
    """PSPNet: upsamples the levels, concatenates them with the map, and applies a bottleneck convolution."""
    SUM_CONCAT = "sum_concat"
    """The sum of the levels F_i, plus a projection of Concat(F_1..F_N)."""
    DILATED = "dilated"
    """The sum of the levels P_j(X), plus the sum of dilated convolutions C_d(X) of rates 1..D."""
    NONE = "none"
    """No pyramid: the head sees only the backbone's map, by the shortcut. The baseline for the others."""


class ConvolutionKind(StrEnum):
    """The form of the 3x3 convolutions after the pyramid."""

    FULL = "full"
    SEPARABLE = "separable"
    """Depthwise, then pointwise: an eighth or less of the work."""


class HeadName(StrEnum):
    """How the fused map becomes one vector."""

    PARTS = "parts"
    """F(x) = sum of w_i f_i(x) over the pyramid's cells f_i, with learned weights w_i."""
    GEM = "gem"
    """Generalised mean pooling with the third power."""
    PARTS_GEM = "parts_gem"
    """Both, concatenated."""


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """A descriptor network without its weights. Raises BuildError if the parts do not fit together."""

    backbone: BackboneName = BackboneName.MOBILENET_V2
    output_stride: int = 16
    """Input pixels per pixel of the backbone's map: 8, 16, or 32, with which the backbone was trained."""
    padding: Padding = Padding.SYMMETRIC
    input: InputShape = field(default_factory=lambda: InputShape(192, 192, Fit.SQUASH))
    mean: Triple = (0.485, 0.456, 0.406)
    """What is subtracted from RGB on a scale of 0 to 1."""
    std: Triple = (0.229, 0.224, 0.225)
    """What RGB on a scale of 0 to 1 is then divided by."""
    bins: tuple[int, ...] = (1, 2, 3, 6)
    """Cells per side of each pyramid level."""
    fusion: FusionName = FusionName.CONCAT
    bottleneck: ConvolutionKind = ConvolutionKind.SEPARABLE
    dilations: int = 3
    """D of the `dilated` fusion; the other fusions ignore it."""
    width: int = 256
    """The channels of the fused map."""
    shortcut: bool = True
    """Whether the backbone's own channels follow the fusion's, so that the head pools both.

    A head that sees only the backbone's is as good as the backbone from the start; training then adds the rest.
    """
    head: HeadName = HeadName.PARTS_GEM
    dimension: int = 256
    """The descriptor's dimension: 128, 256 or 512."""
    dropout: float = 0.1
    """The dropout in training, before the projection and before the segmentation head's prediction."""
    cells: bool = True
    """Whether the network has a second output, one descriptor per pyramid cell."""
    segmentation_classes: int = 0
    """How many classes the segmentation head of multi-task training has; 0 for no such head."""

    def __post_init__(self) -> None:
        self._require(self.output_stride in {8, 16, 32}, f"output stride {self.output_stride} is none of 8, 16 and 32")
        self._require(
            self.padding is Padding.SYMMETRIC or self.backbone in OUT_OF_TENSORFLOW,
            f"padding 'same' is for weights out of TensorFlow (MobileNetV2, EfficientNet-Lite), not {self.backbone}",
        )
        self._require(
            min(self.input.height_px, self.input.width_px) >= 32,
            f"an input of {self.input.height_px}x{self.input.width_px} px is too small: each side needs at least 32 px",
        )
        for name, triple in (("mean", self.mean), ("std", self.std)):
            self._require(len(triple) == 3, f"{name} needs three numbers, one per colour, and got {len(triple)}")
            self._require(all(map(math.isfinite, triple)), f"{name} {triple} holds a number that is not finite")
        self._require(min(self.std) > 0, f"std {self.std} holds a number that is not positive")
        self._require(
            len(self.bins) > 0 and min(self.bins) >= 1 and list(self.bins) == sorted(set(self.bins)),
            f"bins {self.bins} are not distinct positive numbers in rising order",
        )
        self._require(
            self.shortcut or self.fusion is not FusionName.NONE,
            "without a fusion and without the shortcut there is nothing for the head to see",
        )
        self._require(self.dilations >= 1, f"{self.dilations} dilated convolutions are too few: at least 1")
        self._require(self.width >= 1, f"a fused map of {self.width} channels is empty")
        self._require(self.dimension in {128, 256, 512}, f"dimension {self.dimension} is none of 128, 256 and 512")
        self._require(0 <= self.dropout < 1, f"dropout {self.dropout} is not in [0, 1)")
        self._require(
            self.segmentation_classes == 0 or self.segmentation_classes >= 2,
            f"{self.segmentation_classes} segmentation classes: use 0 for none, or at least 2",
        )

    @property
    def map_size(self) -> tuple[int, int]:
        """Height and width of the backbone's map and of the fused map."""
        return (
            math.ceil(self.input.height_px / self.output_stride),
            math.ceil(self.input.width_px / self.output_stride),
        )

    @property
    def cell_count(self) -> int:
        """How many cells all pyramid levels have: 1 + 4 + 9 + 36 = 50 by default."""
        return sum(cells * cells for cells in self.bins)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the network's outputs, in order."""
        return (DESCRIPTOR, CELLS) if self.cells else (DESCRIPTOR,)

    def to_json(self) -> str:
        """One line with sorted keys, so that equal specs give equal text."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what `to_json` wrote; missing fields get their defaults. Raises BuildError if the text is no spec."""
        try:
            raw = cast(dict[str, Any], json.loads(text))
            unknown = sorted(set(raw) - {known.name for known in fields(cls)})
            if unknown:
                raise BuildError(f"a network spec has no field {unknown[0]!r}")
            return cls(**{name: _READERS[name](value) for name, value in raw.items()})
        except (ValueError, TypeError, KeyError, AttributeError, RepositoryError) as error:
            raise BuildError(f"not a network spec: {error} in {text[:120]!r}") from error

    @staticmethod
    def _require(holds: bool, otherwise: str) -> None:
        if not holds:
            raise BuildError(otherwise)


def _read_input(raw: Mapping[str, Any]) -> InputShape:
    return InputShape(int(raw["height_px"]), int(raw["width_px"]), Fit(raw["fit"]))


def _read_flag(raw: object) -> bool:
    if not isinstance(raw, bool):
        raise TypeError(f"{raw!r} is neither true nor false")
    return raw


def _read_triple(raw: list[Any]) -> Triple:
    red, green, blue = map(float, raw)
    return (red, green, blue)


def _read_bins(raw: list[Any]) -> tuple[int, ...]:
    return tuple(int(cells) for cells in raw)


_READERS: Mapping[str, Any] = {
    "backbone": BackboneName,
    "output_stride": int,
    "padding": Padding,
    "input": _read_input,
    "mean": _read_triple,
    "std": _read_triple,
    "bins": _read_bins,
    "fusion": FusionName,
    "bottleneck": ConvolutionKind,
    "dilations": int,
    "width": int,
    "shortcut": _read_flag,
    "head": HeadName,
    "dimension": int,
    "dropout": float,
    "cells": _read_flag,
    "segmentation_classes": int,
}
