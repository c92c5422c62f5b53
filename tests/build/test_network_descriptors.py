"""The whole network: pixels in, unit descriptors out."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pspsearch.model.contract import InputShape
from pspsearch_build.network.descriptor_network import DescriptorNetwork, build_network
from pspsearch_build.network.spec import FusionName, HeadName, NetworkSpec
from tests.build.crops import cut_crops
from tests.build.network_variants import VARIANTS
from tests.build.small_networks import SMALL, small_checkpoint


def _describe(network: DescriptorNetwork, pixels: Tensor) -> tuple[Tensor, ...]:
    with torch.inference_mode():
        return network(pixels)


def test_a_batch_equals_its_pictures_one_by_one() -> None:
    """1e-5: FP32 convolutions sum in another order with another batch size."""
    network, pixels = small_checkpoint().network, torch.from_numpy(cut_crops(5, SMALL.input))

    together = _describe(network, pixels)
    alone = [_describe(network, pixels[place : place + 1]) for place in range(5)]

    for output, parts in zip(together, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(output, torch.cat(parts), atol=1e-5, rtol=0)


def test_outputs_are_unit_descriptors_of_the_promised_shape() -> None:
    """There is one per picture and one per cell; 1e-5 is FP32's rounding."""
    pixels = torch.from_numpy(cut_crops(3, SMALL.input))

    descriptor, cells = _describe(small_checkpoint().network, pixels)

    assert descriptor.shape == (3, 128)
    assert cells.shape == (3, SMALL.cell_count, 128)
    assert SMALL.cell_count == 50
    torch.testing.assert_close(descriptor.norm(dim=-1), torch.ones(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(cells.norm(dim=-1), torch.ones(3, 50), atol=1e-5, rtol=0)


def test_normalisation_is_inside() -> None:
    """It is (x / 255 - mean) / std per colour, as the backbone's weights need; 1e-5 is FP32's rounding."""
    spec = replace(SMALL, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    network = build_network(spec)
    pixels = torch.from_numpy(cut_crops(1, spec.input))

    early, _ = network.fuse(pixels)

    picture = torch.empty(1, 3, 80, 96)
    for colour in range(3):
        picture[0, colour] = (pixels[0, :, :, colour] / 255 - spec.mean[colour]) / spec.std[colour]
    torch.testing.assert_close(early, network.trunk.backbone(picture)[0], atol=1e-5, rtol=1e-5)


def test_the_same_seed_gives_the_same_network() -> None:
    """Torch's own random numbers are not disturbed."""
    torch.manual_seed(5)
    expected_draw = torch.rand(1)
    torch.manual_seed(5)

    first, second, other = build_network(SMALL, seed=1), build_network(SMALL, seed=1), build_network(SMALL, seed=2)

    assert torch.equal(torch.rand(1), expected_draw)
    weights = [network.head.projection.weight for network in (first, second, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("name", VARIANTS)
def test_weights_move_to_another_input_size(name: str) -> None:
    """A network is trained at one size and exported at another with the same state dict."""
    spec = VARIANTS[name]
    small = build_network(replace(spec, input=InputShape(48, 64), width=16))
    large = build_network(replace(spec, input=InputShape(96, 80), width=16), seed=1)

    large.load_state_dict(small.state_dict())

    descriptor = _describe(large, torch.from_numpy(cut_crops(1, large.spec.input)))[0]
    assert descriptor.shape == (1, spec.dimension)
    assert torch.isfinite(descriptor).all()


def test_multi_task_training_reaches_every_weight() -> None:
    """One pass gives descriptors and both logits at the input's size, and gradients for everything that learns."""
    network = build_network(SMALL).train()
    pixels = torch.from_numpy(cut_crops(4, SMALL.input))
    labels = torch.randint(0, 3, (4, 80, 96), generator=torch.Generator().manual_seed(0))

    (descriptor, _), logits, auxiliary_logits = network.forward_multitask(pixels)
    loss = functional.cross_entropy(logits, labels) + functional.cross_entropy(auxiliary_logits, labels)
    (loss + (descriptor[0] - descriptor[1]).square().sum()).backward()

    assert logits.shape == auxiliary_logits.shape == (4, 3, 80, 96)
    without = [name for name, weight in network.named_parameters() if weight.grad is None]
    assert without == []


def test_a_network_without_classes_has_no_segmentation_head() -> None:
    """Its weights are only those of the descriptor."""
    network = build_network(replace(SMALL, segmentation_classes=0))

    assert not any("segmentation" in name for name in network.state_dict())


def test_the_default_is_what_ships() -> None:
    """MobileNetV2 at stride 16, 192 px, 256 dimensions: the contract that model version 1 promises."""
    network = build_network(NetworkSpec())

    descriptor = _describe(network, torch.from_numpy(np.zeros((1, 192, 192, 3), np.uint8)))[0]

    assert descriptor.shape == (1, 256)
    assert sum(weight.numel() for weight in network.parameters()) < 6e6


def test_without_a_fusion_the_head_pools_the_backbone() -> None:
    """Bin 1 and parts make it average pooling: a projection of the map's mean."""
    spec = NetworkSpec(input=InputShape(64, 64), fusion=FusionName.NONE, head=HeadName.PARTS, bins=(1,), dimension=128)
    network = build_network(spec)
    pixels = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    with torch.inference_mode():
        seen = network.fuse(pixels)[1]
        expected = functional.normalize(network.head.projection(seen.mean(dim=(2, 3))))
        torch.testing.assert_close(network(pixels)[0], expected, atol=1e-5, rtol=0)  # FP32

    assert seen.shape == (2, 1280, 4, 4)
