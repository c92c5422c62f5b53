"""The last stage: whitens a trained network's final layer by pictures, perhaps to fewer dimensions."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from pspsearch_build.data.pictures import PictureSet
from pspsearch_build.errors import BuildError
from pspsearch_build.evaluation.describers import read_batches
from pspsearch_build.network.batch_norm import round_weights
from pspsearch_build.network.descriptor_network import DescriptorNetwork, build_network
from pspsearch_build.network.whitening import Whitening, fit_whitening, fit_whitening_within


def rewhiten(
    network: DescriptorNetwork,
    pictures: PictureSet,
    advance: Callable[[int], None],
    *,
    dimension: int,
    shrinkage: float,
    within_classes: bool,
) -> DescriptorNetwork:
    """A network that describes like this one and then whitens, at no extra cost; leaves this one unchanged.

    `within_classes` whitens how pictures of one class differ (`fit_whitening_within`); otherwise it whitens how all
    differ. Raises BuildError if there are too few pictures.
    """
    least = max(network.spec.dimension, dimension) + 1
    if len(pictures.pictures) < least or dimension > network.spec.dimension:
        raise BuildError(
            f"whitening {network.spec.dimension} dimensions to as many or fewer needs at least {least} pictures; "
            f"{pictures.name} has {len(pictures.pictures)} for {dimension}"
        )
    outputs = _project(network, pictures, advance)
    labels = torch.from_numpy(pictures.numbers)
    whitening = (
        fit_whitening_within(outputs, labels, dimension, shrinkage)
        if within_classes
        else fit_whitening(outputs, dimension, shrinkage)
    )
    return _fold(network, whitening, dimension)


def _fold(network: DescriptorNetwork, whitening: Whitening, dimension: int) -> DescriptorNetwork:
    layer = network.head.projection
    with torch.no_grad():
        weight = whitening.matrix @ layer.weight
        bias = whitening.matrix @ (layer.bias - whitening.mean)
    whitened = build_network(replace(network.spec, dimension=dimension))
    whitened.load_state_dict(network.state_dict() | {"head.projection.weight": weight, "head.projection.bias": bias})
    round_weights(whitened.head)
    return whitened


def _project(network: DescriptorNetwork, pictures: PictureSet, advance: Callable[[int], None]) -> Tensor:
    """The final layer's outputs, before they get unit length."""
    rows: list[Tensor] = []
    for pixels in read_batches([picture.path for picture in pictures.pictures], network.spec.input):
        with torch.no_grad():
            rows.append(network.head.projection(network.head.pool(network.fuse(torch.from_numpy(pixels))[1])))
        advance(len(pixels))
    return torch.cat(rows)
