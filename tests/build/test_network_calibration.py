"""What makes an untrained network usable: statistics, rounding and whitening."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from pspsearch.model.contract import InputShape
from pspsearch_build.errors import BuildError
from pspsearch_build.network.batch_norm import fold_batch_norms, round_weights
from pspsearch_build.network.calibration import calibrate, compress
from pspsearch_build.network.centred_stem import centre_stem
from pspsearch_build.network.descriptor_network import DescriptorNetwork, build_network
from pspsearch_build.network.random_pictures import random_pictures
from pspsearch_build.network.spec import BackboneName, NetworkSpec, Padding
from pspsearch_build.network.whitening import fit_compression, fit_whitening, fit_whitening_within
from tests.build.crops import cut_crops
from tests.build.small_networks import SMALL, small_checkpoint


def _describe(network: DescriptorNetwork, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    with torch.inference_mode():
        return network(torch.from_numpy(pixels))[0].numpy()


def test_whitened_vectors_are_centred_and_uncorrelated() -> None:
    """Without shrinkage the covariance becomes the identity; 1e-3 is for FP32 over 2,000 samples."""
    vectors = torch.randn(2000, 8, generator=torch.Generator().manual_seed(0)) @ torch.randn(
        8, 8, generator=torch.Generator().manual_seed(1)
    )

    whitening = fit_whitening(vectors + 3, kept=5, shrinkage=0)
    white = (vectors + 3 - whitening.mean) @ whitening.matrix.T

    torch.testing.assert_close(white.mean(dim=0), torch.zeros(5), atol=1e-3, rtol=0)
    torch.testing.assert_close(white.T @ white / 2000, torch.eye(5), atol=1e-3, rtol=0)


def test_shrinkage_holds_weak_directions_down() -> None:
    """A direction without variance is not amplified: its gain is that of the mean variance, shrunk."""
    vectors = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 0.0])

    whitening = fit_whitening(vectors, kept=2, shrinkage=1.0)

    mean_variance = float(vectors.var(dim=0, correction=0).mean())
    gains = whitening.matrix.square().sum(dim=1).sqrt()
    assert gains[1] == pytest.approx(mean_variance**-0.5, rel=1e-3)  # FP32
    assert gains[0] == pytest.approx((3 * mean_variance) ** -0.5, rel=1e-3)


def test_whitening_within_classes_stretches_what_tells_them_apart() -> None:
    """A weak direction in which classes differ beats a strong one in which each class is spread out."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % 4
    telling = (labels.float() - 1.5)[:, None] * 0.5 + 0.05 * torch.randn(400, 1, generator=generator)
    vectors = torch.cat([5 * torch.randn(400, 1, generator=generator), telling], dim=1)

    plain = fit_whitening(vectors, kept=1, shrinkage=1e-6)
    within = fit_whitening_within(vectors, labels, kept=1, shrinkage=1e-6)

    assert abs(plain.matrix[0, 0]) > 10 * abs(plain.matrix[0, 1] * 0.5 / 5)
    white = ((vectors - within.mean) @ within.matrix.T).squeeze()
    spreads = [float(white[labels == label].std()) for label in range(4)]
    assert spreads == pytest.approx([1] * 4, rel=0.2)
    assert float(white.std()) > 5


def test_rounded_weights_are_exact_in_half_precision() -> None:
    """Folded weights and biases are bf16 numbers up to FP32's last bits, and near the original ones."""
    network = build_network(SMALL)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.bias)
            assert layer.running_mean is not None
            layer.running_mean.normal_()
    before = _folded(network)

    round_weights(network)

    after = _folded(network)
    assert len(after) == 2 * (58 + 1)
    for old, new in zip(before, after, strict=True):
        # A bias that is small beside the mean that was subtracted from it has lost some bits.
        torch.testing.assert_close(new, new.bfloat16().float(), atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(new, old, atol=1e-6, rtol=2**-8)  # bf16 keeps eight bits


def _folded(network: DescriptorNetwork) -> list[Tensor]:
    folded = copy.deepcopy(network)
    fold_batch_norms(folded)
    centre_stem(folded.trunk.backbone)
    convolutions = [layer for layer in folded.trunk.modules() if isinstance(layer, nn.Conv2d)]
    biases = [layer.bias for layer in (*convolutions, folded.head.projection) if layer.bias is not None]
    return [layer.weight.detach() for layer in (*convolutions, folded.head.projection)] + [b.detach() for b in biases]


@pytest.mark.parametrize(
    "spec", [SMALL, replace(SMALL, backbone=BackboneName.EFFICIENTNET_LITE0, padding=Padding.SAME)], ids=["v2", "lite0"]
)
def test_centring_the_stem_keeps_the_function_and_the_rounding(spec: NetworkSpec) -> None:
    """Centring twice equals centring once, borders included, and the new biases are also bf16 numbers."""
    network = build_network(spec)
    with torch.no_grad():
        for layer in network.trunk.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.bias.normal_()
    round_weights(network)
    fold_batch_norms(network)
    pixels = torch.from_numpy(cut_crops(2, spec.input))
    with torch.inference_mode():
        early, _ = network.fuse(pixels)

    centre_stem(network.trunk.backbone)
    once = [value.clone() for value in network.state_dict().values()]
    centre_stem(network.trunk.backbone)

    with torch.inference_mode():
        torch.testing.assert_close(network.fuse(pixels)[0], early, atol=1e-4, rtol=0)
    assert all(map(torch.equal, once, network.state_dict().values()))
    first, second = [layer.bias for layer in network.trunk.modules() if isinstance(layer, nn.Conv2d)][:2]
    for bias in (first, second):
        assert bias is not None
        torch.testing.assert_close(bias, bias.bfloat16().float(), atol=1e-6, rtol=1e-6)


def test_only_a_backbone_that_begins_so_is_centred() -> None:
    """A ResNet stays unchanged."""
    network = build_network(replace(SMALL, backbone=BackboneName.RESNET18))
    fold_batch_norms(network)

    centre_stem(network.trunk.backbone)

    assert not any(isinstance(module, nn.Hardtanh | nn.ConstantPad2d) for module in network.modules())


def test_folding_batch_norm_keeps_the_function() -> None:
    """All norms disappear, and nothing else changes; 1e-4 of values around 1, for FP32 through fifty layers."""
    network = build_network(SMALL)
    pixels = torch.from_numpy(cut_crops(2, SMALL.input))
    with torch.inference_mode():
        expected = network(pixels)
    fold_batch_norms(network)

    with torch.inference_mode():
        outputs = network(pixels)

    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.trunk.modules())
    for output, reference in zip(outputs, expected, strict=True):
        torch.testing.assert_close(output, reference, atol=1e-4, rtol=0)


def test_descriptors_of_different_pictures_are_far_apart() -> None:
    """New pictures like those of the calibration have a mean cosine near 0, whatever the network's seed."""
    pixels = np.stack(list(random_pictures(64, SMALL.input, seed=99)))

    for seed in (0, 1):
        scores = _describe(small_checkpoint(seed).network, pixels) @ _describe(small_checkpoint(seed).network, pixels).T
        assert abs((scores.sum() - 64) / (64 * 63)) < 0.05


def test_views_of_a_photograph_are_near_it() -> None:
    """Cut a little tighter, or mirrored, it scores above 0.7 with itself and below 0.3 with 39 others, on average.

    Three networks gave 0.95 and 0.82 against 0.16 to 0.18.
    """
    photographs = cut_crops(40, SMALL.input)
    height_px, width_px = SMALL.input.height_px, SMALL.input.width_px
    box = (4, 4, width_px - 4, height_px - 4)
    tighter = [np.asarray(Image.fromarray(p).crop(box).resize((width_px, height_px))) for p in photographs]
    network = small_checkpoint().network

    gallery = _describe(network, photographs)
    for views in (np.stack(tighter), np.ascontiguousarray(photographs[:, :, ::-1])):
        scores = _describe(network, views) @ gallery.T
        assert np.diag(scores).mean() > 0.7
        assert (scores.sum() - np.trace(scores)) / (40 * 39) < 0.3


def test_compression_keeps_what_a_trained_backbone_sees() -> None:
    """Its statistics stay, the random fusion gets no weight, and scores stay those of its pooled channels."""
    network = build_network(SMALL)
    pictures = np.stack(list(random_pictures(SMALL.dimension + 8, SMALL.input, seed=0)))

    compress(network, [pictures])

    assert network.trunk.fusion is not None
    backbone, fusion = network.trunk.backbone.state_dict(), network.trunk.fusion.state_dict()
    assert all(not tensor.any() for name, tensor in backbone.items() if name.endswith("running_mean"))
    assert all(tensor.any() for name, tensor in fusion.items() if name.endswith("running_mean"))
    weight = network.head.projection.weight.reshape(-1, 2, network.trunk.channels)  # parts and GeM
    assert not weight[:, :, : SMALL.width].any()
    assert weight[:, :, SMALL.width :].any(dim=2).all()
    assert not network.head.projection.bias.any()


def test_what_is_random_is_whitened_where_there_is_nothing_else() -> None:
    """Without the shortcut the head sees only the untrained fusion, for which all pictures are much alike."""
    network = build_network(replace(SMALL, shortcut=False))
    pictures = np.stack(list(random_pictures(SMALL.dimension + 8, SMALL.input, seed=0)))

    compress(network, [pictures], torch.eye(network.trunk.backbone.channels))

    scores = _describe(network, pictures) @ _describe(network, pictures).T
    assert abs((scores.sum() - len(scores)) / (len(scores) * (len(scores) - 1))) < 0.05


def test_compression_keeps_scores_and_holds_the_strong_directions_down() -> None:
    """A quarter of the way to a whitening, gains fall with the fourth root of the strength, counted in amplitudes."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(5000, 3, generator=generator) * torch.tensor([4.0, 1.0, 0.01]) / 100
    vectors[:, 0] += 0.16  # not centred: a mean is a direction like others

    matrix = fit_compression(vectors, kept=2)

    rows = torch.nn.functional.normalize(vectors)
    strengths = (rows @ torch.nn.functional.normalize(matrix).T).square().mean(dim=0)
    gains = matrix.square().sum(dim=1).sqrt()
    assert strengths[0] > 10 * strengths[1]
    torch.testing.assert_close(gains, (strengths / strengths[0]) ** -0.125, rtol=1e-3, atol=0)
    assert abs(matrix[:, 2]).max() < 1e-2  # only the weakest direction is left out


def test_other_directions_count_in_a_compression() -> None:
    """A direction that no vector shows is kept if the other directions vary in it, and dropped if they agree."""
    vectors = torch.eye(4)[[0, 1]].repeat(50, 1)
    beside = torch.tensor([[0, 0, 1.0, 5.0], [0, 0, -1.0, 5.0]])

    matrix = fit_compression(vectors, kept=3, beside=beside)

    assert float(matrix[:, 2].square().sum()) > 0.8
    assert float(matrix[:, 3].square().sum()) < 1e-6


def test_too_few_pictures_are_refused() -> None:
    """A covariance of 128 dimensions needs more than 128 pictures."""
    network = build_network(SMALL)

    with pytest.raises(BuildError, match="more than 128 pictures, not 8"):
        calibrate(network, [cut_crops(8, SMALL.input)])


def test_random_pictures_are_repeatable_and_differ() -> None:
    """The same seed draws the same pictures, a longer run starts alike, and no two are equal."""
    shape = InputShape(40, 56)

    first, again = list(random_pictures(6, shape, seed=3)), list(random_pictures(9, shape, seed=3))
    other = next(random_pictures(1, shape, seed=4))

    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=False))
    assert all(picture.shape == (40, 56, 3) and picture.dtype == np.uint8 for picture in first)
    assert len({picture.tobytes() for picture in [*again, other]}) == 10
