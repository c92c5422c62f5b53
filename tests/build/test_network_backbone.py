"""The backbones: output stride, padding, and weights from files."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import MobileNetV2, mobilenet_v2, resnet18, resnet34, resnet50

from pspsearch.model.contract import InputShape
from pspsearch_build.errors import BuildError, WeightsMismatch
from pspsearch_build.network.backbone import build_backbone, read_classifier
from pspsearch_build.network.efficientnet_lite import LITE0, EfficientNetLite
from pspsearch_build.network.same_padding import SameConv2d, pad_same
from pspsearch_build.network.spec import BackboneName, NetworkSpec, Padding


def _lite0(weights: None) -> EfficientNetLite:
    assert weights is None
    return EfficientNetLite(LITE0)


CONSTRUCTORS: dict[str, Any] = {
    "mobilenet_v2": mobilenet_v2,
    "efficientnet_lite0": _lite0,
    "resnet18": resnet18,
    "resnet34": resnet34,
    "resnet50": resnet50,
}


def _undilated(network: Any, x: Tensor) -> Tensor:
    """The last map of the original network, at stride 32."""
    if isinstance(network, MobileNetV2 | EfficientNetLite):
        return network.features(x)
    x = network.maxpool(network.relu(network.bn1(network.conv1(x))))
    return network.layer4(network.layer3(network.layer2(network.layer1(x))))


@torch.no_grad()
@pytest.mark.parametrize("name", CONSTRUCTORS)
@pytest.mark.parametrize("stride", [8, 16])
def test_dilation_keeps_the_function_on_a_finer_map(name: str, stride: int, tmp_path: Path) -> None:
    """The dilated map, read at every second or fourth pixel, is the original network's map.

    1e-4 of the largest value, because dilated and strided convolutions sum FP32 products in different orders, over
    fifty layers.
    """
    torch.manual_seed(0)
    network = CONSTRUCTORS[name](weights=None).eval()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    spec = NetworkSpec(backbone=BackboneName(name), output_stride=stride, input=InputShape(64, 96))
    backbone = build_backbone(spec, tmp_path / "weights.pth").eval()
    x = torch.randn(1, 3, 64, 96)

    early, last = backbone(x)

    expected = _undilated(network, x)
    assert last.shape == (1, backbone.channels, 64 // stride, 96 // stride)
    assert early.shape[1] == backbone.early_channels
    step = 32 // stride
    torch.testing.assert_close(last[:, :, ::step, ::step], expected, atol=1e-4 * float(expected.abs().max()), rtol=0)


@pytest.mark.parametrize("height", [6, 7, 8, 13])
@pytest.mark.parametrize("width", [6, 9])
def test_same_padding_is_tensorflows(height: int, width: int) -> None:
    """Output i sums the input from 2i - before, with before = floor(max((ceil(n/2)-1)*2 + 3 - n, 0) / 2)."""
    torch.manual_seed(0)
    convolution = nn.Conv2d(1, 1, 3, stride=2, padding=1, bias=False)
    block = nn.Sequential(convolution)
    x = torch.randn(1, 1, height, width)

    pad_same([block], (height, width))
    found = block(x)[0, 0]

    rows, columns = -(-height // 2), -(-width // 2)
    above = max((rows - 1) * 2 + 3 - height, 0) // 2
    left = max((columns - 1) * 2 + 3 - width, 0) // 2
    expected = torch.zeros(rows, columns)
    for i in range(rows):
        for j in range(columns):
            for k in range(9):
                y, z = 2 * i + k // 3 - above, 2 * j + k % 3 - left
                if 0 <= y < height and 0 <= z < width:
                    expected[i, j] += convolution.weight[0, 0, k // 3, k % 3].detach() * x[0, 0, y, z]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)  # nine FP32 products, summed in another order


@torch.no_grad()
def test_same_padding_changes_the_strided_convolutions_only() -> None:
    """There are five at stride 32; at output stride 16 the fifth is dilated, and dilated ones stay symmetric."""
    spec = NetworkSpec(padding=Padding.SAME, input=InputShape(224, 224))

    backbone = build_backbone(spec)

    names = [name.removesuffix(".weight") for name in backbone.state_dict() if name.endswith(".weight")]
    changed = [name for name in names if isinstance(backbone.get_submodule(name), SameConv2d)]
    assert changed == ["early.0.0", "early.2.conv.1.0", "early.4.conv.1.0", "early.7.conv.1.0"]
    first = backbone.early[0]
    assert isinstance(first, nn.Sequential)
    convolution = first[0]
    assert isinstance(convolution, SameConv2d)
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    expected = functional.conv2d(functional.pad(x, (0, 1, 0, 1)), convolution.weight, stride=2)
    torch.testing.assert_close(convolution(x), expected)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_come_from_a_file_of_either_format(suffix: str, tmp_path: Path) -> None:
    """The file may hold a classifier of any number of classes."""
    torch.manual_seed(1)
    state = mobilenet_v2(weights=None).state_dict() | {"classifier.1.weight": torch.zeros(7, 1280)}
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)

    backbone = build_backbone(NetworkSpec(), path)

    assert torch.equal(backbone.state_dict()["late.18.0.weight"], state["features.18.0.weight"])


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    """The error names the file and the first keys that do not fit."""
    save_file(resnet18(weights=None).state_dict(), tmp_path / "resnet.safetensors")

    with pytest.raises(WeightsMismatch, match=r"resnet\.safetensors .*features\.0\.0\.weight is missing.* more"):
        build_backbone(NetworkSpec(), tmp_path / "resnet.safetensors")


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    """The error states both shapes."""
    state = mobilenet_v2(weights=None).state_dict() | {"features.0.0.weight": torch.zeros(16, 3, 3, 3)}
    save_file(state, tmp_path / "thin.safetensors")

    with pytest.raises(WeightsMismatch, match=r"features\.0\.0\.weight is \[16, 3, 3, 3\] where \[32, 3, 3, 3\]"):
        build_backbone(NetworkSpec(), tmp_path / "thin.safetensors")


class _Payload:
    """What a hostile .pth may hold: unpickling it calls a function."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self._marker,))


def test_a_pickle_with_code_in_it_is_refused(tmp_path: Path) -> None:
    """Nothing in the file is executed."""
    torch.save({"features": _Payload(tmp_path / "ran")}, tmp_path / "evil.pth")

    with pytest.raises(BuildError, match=r"evil\.pth cannot be read"):
        build_backbone(NetworkSpec(), tmp_path / "evil.pth")

    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [("w.safetensors", b""), ("w.safetensors", b"\xff" * 64), ("w.pth", b""), ("w.pth", b"junk"), ("w.bin", b"junk")],
)
def test_a_damaged_weights_file_is_one_sentence(name: str, content: bytes, tmp_path: Path) -> None:
    """Whatever the bytes are, the error names the file."""
    (tmp_path / name).write_bytes(content)

    with pytest.raises(BuildError, match=name):
        build_backbone(NetworkSpec(), tmp_path / name)


def test_a_missing_weights_file_is_named(tmp_path: Path) -> None:
    """The error is one sentence."""
    with pytest.raises(BuildError, match=r"none\.pth: there is no such weights file"):
        build_backbone(NetworkSpec(), tmp_path / "none.pth")


def test_a_download_without_a_network_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to do instead. Nobody listens on the proxy's port."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    with pytest.raises(BuildError, match=r"mobilenet_v2 cannot be downloaded .* give a weights file"):
        build_backbone(NetworkSpec(), "download")


@pytest.mark.parametrize(
    ("matrix", "usable"),
    [
        (torch.eye(3, 512), True),
        (torch.eye(3, 256), False),
        (torch.ones(1, 512), False),
        (torch.full((3, 512), torch.nan), False),
    ],
)
def test_classifier_is_used_if_it_tells_classes_apart(matrix: torch.Tensor, usable: bool, tmp_path: Path) -> None:
    """It is ignored unless it matches the backbone's channels and has two classes or more, with finite numbers."""
    save_file({"fc.weight": matrix, "fc.bias": torch.zeros(len(matrix))}, tmp_path / "weights.safetensors")

    found = read_classifier(tmp_path / "weights.safetensors", 512)

    assert found is None if not usable else found is not None and torch.equal(found, matrix)
