"""EfficientNet-Lite, compared with the implementation that its published weights come with."""

from pathlib import Path
from typing import Any

import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import resnet18

from pspsearch.model.contract import InputShape
from pspsearch_build.errors import WeightsMismatch
from pspsearch_build.network.backbone import build_backbone, recognise
from pspsearch_build.network.spec import BackboneName, NetworkSpec, Padding

SIDES_PX = {
    BackboneName.EFFICIENTNET_LITE0: 64,
    BackboneName.EFFICIENTNET_LITE1: 80,
    BackboneName.EFFICIENTNET_LITE2: 68,
}
"""Maps of even and odd sides occur, which SAME pads differently."""


def _published(name: BackboneName, folder: Path) -> tuple[Any, Path]:
    """The other implementation with random weights and statistics, and a file of them in the published form."""
    torch.manual_seed(0)
    network = EfficientNet.from_name(name.replace("_", "-"))
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.normal_(std=0.1)
            layer.running_var.uniform_(0.5, 1.5)
    path = folder / f"{name}.pth"
    torch.save(network.state_dict(), path)
    return network.eval(), path


def _outputs(layers: list[nn.Module], forward: Any, x: Tensor) -> list[Tensor]:
    """What each layer gives while the network works on `x`."""
    seen: list[Tensor] = []

    def note(_layer: nn.Module, _inputs: object, output: Any) -> None:
        seen.append(output)

    hooks = [layer.register_forward_hook(note) for layer in layers]
    forward(x)
    for hook in hooks:
        hook.remove()
    return seen


@torch.no_grad()
@pytest.mark.parametrize("name", SIDES_PX)
def test_every_layer_gives_what_the_published_one_gives(name: BackboneName, tmp_path: Path) -> None:
    """1e-4 of each map's largest value, for the same FP32 products summed in the machine's own order."""
    side_px = SIDES_PX[name]
    published, path = _published(name, tmp_path)
    spec = NetworkSpec(backbone=name, output_stride=32, padding=Padding.SAME, input=InputShape(side_px, side_px))
    backbone = build_backbone(spec, path).eval()
    x = torch.randn(2, 3, side_px, side_px)

    ours = _outputs([*backbone.early[1:], *backbone.late[:-1]], backbone, x)
    theirs = _outputs(list(published._blocks), published.extract_features, x)

    assert len(ours) == len(theirs)
    for found, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4 * float(expected.abs().max()), rtol=0)
    torch.testing.assert_close(backbone(x)[1], published.extract_features(x), atol=6e-4, rtol=0)


@pytest.mark.parametrize("name", SIDES_PX)
def test_a_published_file_is_recognised(name: BackboneName, tmp_path: Path) -> None:
    """Names and shapes alone identify it."""
    _, path = _published(name, tmp_path)

    assert recognise(path) == name


def test_a_file_of_another_network_is_not(tmp_path: Path) -> None:
    """The error names the backbones that would be recognised."""
    save_file(resnet18().state_dict(), tmp_path / "resnet.safetensors")

    with pytest.raises(WeightsMismatch, match=r"resnet\.safetensors holds weights of none of .*mobilenet_v2"):
        recognise(tmp_path / "resnet.safetensors")
