"""Whitening descriptors: centred, decorrelated, and folded into the layer that makes them."""

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

_Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Whitening:
    """The map x -> matrix @ (x - mean)."""

    matrix: Tensor
    """[kept, dimension]"""
    mean: Tensor
    """[dimension]"""


def fit_whitening(vectors: Tensor, kept: int, shrinkage: float) -> Whitening:
    """PCA whitening of vectors [count, dimension] to their `kept` strongest directions, strongest first.

    `shrinkage` of the mean variance is added to every variance: 0 whitens fully, and blows up directions in which
    few vectors vary; large values only rotate.
    """
    samples = np.asarray(vectors.double().cpu().numpy(), np.float64)
    mean = samples.mean(axis=0)
    _, singular, directions = cast(tuple[_Array, _Array, _Array], np.linalg.svd(samples - mean, full_matrices=False))
    variances = singular**2 / len(samples)
    deviations = np.sqrt(variances + shrinkage * variances.sum() / samples.shape[1])
    assert kept <= len(deviations), f"{len(deviations)} directions cannot give {kept}"
    matrix = directions[:kept] / deviations[:kept, None]
    return Whitening(torch.from_numpy(matrix).to(vectors.dtype), torch.from_numpy(mean).to(vectors.dtype))


def fold_whitening(layer: nn.Linear, whitening: Whitening) -> None:
    """Puts a whitening of the layer's outputs into its weight and bias, in place: it costs nothing afterwards."""
    assert layer.bias is not None
    with torch.no_grad():
        layer.weight.copy_(whitening.matrix @ layer.weight)
        layer.bias.copy_(whitening.matrix @ (layer.bias - whitening.mean))
