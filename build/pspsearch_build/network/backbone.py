"""The backbones: cut before the classifier, and dilated to an output stride of 8 or 16."""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Literal
from urllib.error import URLError

import torch
import torchvision.models as torchvision_models
from torch import Tensor, nn
from torchvision.models import MobileNetV2, ResNet

from pspsearch_build.errors import BuildError, WeightsMismatch
from pspsearch_build.network.dilation import dilate
from pspsearch_build.network.efficientnet_lite import LITE0, LITE1, LITE2, EfficientNetLite, rename
from pspsearch_build.network.same_padding import pad_same
from pspsearch_build.network.spec import OUT_OF_TENSORFLOW, BackboneName, NetworkSpec, Padding
from pspsearch_build.network.weights import load_weights, read_weights

_Network = MobileNetV2 | ResNet | EfficientNetLite

Weights = Path | Literal["download"] | None
"""Where a backbone's first weights come from: a file, torchvision's download, or, if None, random numbers."""


class Backbone(nn.Module):
    """Maps a normalised picture to the earlier map (for the auxiliary loss) and the last map.

    `early_channels` and `channels` are the channels of the two maps.
    """

    def __init__(self, early: nn.Sequential, late: nn.Sequential, early_channels: int, channels: int) -> None:
        super().__init__()
        self.early, self.late = early, late
        self.early_channels, self.channels = early_channels, channels

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Maps [batch, 3, height_px, width_px] to both maps [batch, channels, height, width]."""
        early = self.early(picture)
        return early, self.late(early)


def build_backbone(spec: NetworkSpec, weights: Weights = None) -> Backbone:
    """Builds the spec's backbone. Raises WeightsMismatch if the weights file is for another one."""
    network = _download(spec.backbone) if weights == "download" else _construct(spec.backbone)
    if isinstance(weights, Path):
        _load_all_but_classifier(network, weights)
    backbone, blocks = _cut(network)
    dilate(blocks, spec.output_stride)
    if spec.padding is Padding.SAME:
        pad_same(blocks, (spec.input.height_px, spec.input.width_px))
    return backbone


def read_classifier(path: Path, channels: int) -> Tensor | None:
    """The classifier's matrix [classes, channels] in a weights file; None if the file has none."""
    matrices = [
        tensor.float()
        for name, tensor in rename(read_weights(path)).items()
        if name.startswith(_CLASSIFIERS) and tensor.ndim == 2 and tensor.shape[1] == channels
    ]
    usable = len(matrices) == 1 and len(matrices[0]) > 1 and bool(matrices[0].isfinite().all())
    return matrices[0] if usable else None


def recognise(path: Path) -> BackboneName:
    """Which of TensorFlow's backbones a weights file is for. Raises WeightsMismatch if it is for none."""
    given = {name: tensor.shape for name, tensor in _features(read_weights(path)).items()}
    for name in sorted(OUT_OF_TENSORFLOW):
        with torch.device("meta"):
            own = _features(_construct(name).state_dict())
        if {tensor: own[tensor].shape for tensor in own} == given:
            return name
    raise WeightsMismatch(f"{path} holds weights of none of {', '.join(sorted(OUT_OF_TENSORFLOW))}")


def _features(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """All tensors but the classifier and BatchNorm's count of batches, which a file for inference may lack."""
    return {
        name: tensor
        for name, tensor in rename(tensors).items()
        if not name.startswith(_CLASSIFIERS) and not name.endswith("num_batches_tracked")
    }


def _construct(name: BackboneName) -> _Network:
    if name in _LITES:
        return EfficientNetLite(_LITES[name])
    return _CONSTRUCTORS[name](weights=None)


def _cut(network: _Network) -> tuple[Backbone, list[nn.Module]]:
    """The backbone, and its blocks in order."""
    match network:
        case MobileNetV2():
            return _cut_mobilenet(network)
        case ResNet():
            return _cut_resnet(network)
        case EfficientNetLite(features=features, early=early):
            cut = Backbone(features[:early], features[early:], network.early_channels, network.channels)
            return cut, list(features)


def _cut_mobilenet(network: MobileNetV2) -> tuple[Backbone, list[nn.Module]]:
    features = network.features
    return Backbone(features[:14], features[14:], early_channels=96, channels=1280), list(features)


def _cut_resnet(network: ResNet) -> tuple[Backbone, list[nn.Module]]:
    parts = OrderedDict(network.named_children())
    for classifier_part in ("avgpool", "fc"):
        del parts[classifier_part]
    late = nn.Sequential(OrderedDict(layer4=parts.pop("layer4")))
    stages = (network.layer1, network.layer2, network.layer3, network.layer4)
    blocks = [network.conv1, network.maxpool, *(block for stage in stages for block in stage)]
    channels = network.fc.in_features
    return Backbone(nn.Sequential(parts), late, channels // 2, channels), blocks


def _load_all_but_classifier(network: _Network, path: Path) -> None:
    """Loads the backbone; the file may hold a classifier of any number of classes, or none."""
    own = {name: tensor for name, tensor in network.state_dict().items() if name.startswith(_CLASSIFIERS)}
    read = {name: tensor for name, tensor in rename(read_weights(path)).items() if not name.startswith(_CLASSIFIERS)}
    load_weights(network, own | read, path)


def _download(name: BackboneName) -> _Network:
    if name in _LITES:
        raise BuildError(f"torchvision has no weights of {name} to download; give a weights file instead")
    try:
        return _CONSTRUCTORS[name](weights="DEFAULT")
    except (URLError, OSError) as error:
        raise BuildError(
            f"the weights of {name} cannot be downloaded ({error}); give a weights file instead"
        ) from error


_CLASSIFIERS = ("classifier.", "fc.")

_CONSTRUCTORS: dict[BackboneName, Callable[..., MobileNetV2 | ResNet]] = {
    BackboneName.MOBILENET_V2: torchvision_models.mobilenet_v2,
    BackboneName.RESNET18: torchvision_models.resnet18,
    BackboneName.RESNET34: torchvision_models.resnet34,
    BackboneName.RESNET50: torchvision_models.resnet50,
    BackboneName.RESNET101: torchvision_models.resnet101,
}

_LITES = {
    BackboneName.EFFICIENTNET_LITE0: LITE0,
    BackboneName.EFFICIENTNET_LITE1: LITE1,
    BackboneName.EFFICIENTNET_LITE2: LITE2,
}
