"""Whitening vectors: centred, and stretched so that every direction counts."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from torch import Tensor


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
    samples = _numbers(vectors)
    found = PCA(kept, random_state=0).fit(samples)
    deviations = np.sqrt(found.explained_variance_ + shrinkage * samples.var(axis=0).mean())
    matrix = found.components_ / deviations[:, None]
    return Whitening(torch.from_numpy(matrix).to(vectors.dtype), torch.from_numpy(found.mean_).to(vectors.dtype))


def fit_whitening_within(vectors: Tensor, labels: Tensor, kept: int, shrinkage: float) -> Whitening:
    """A whitening of how pictures of one class differ; then the `kept` directions in which the classes differ most.

    Directions in which a class is spread out say little, and are held down; those in which its pictures agree are
    stretched. Labels [count] are whole numbers; `shrinkage` is as in `fit_whitening`.
    """
    samples, classes = _numbers(vectors), np.asarray(labels.cpu().numpy(), np.int64)
    members = [samples[classes == one] for one in np.unique(classes)]
    spread = np.concatenate([some - some.mean(axis=0) for some in members])
    within = PCA(samples.shape[1], random_state=0).fit(spread)
    variances = within.explained_variance_
    evening = within.components_ / np.sqrt(variances + shrinkage * variances.mean())[:, None]
    differing = PCA(kept, random_state=0).fit(samples @ evening.T)
    matrix = differing.components_ @ evening
    mean = samples.mean(axis=0)
    return Whitening(torch.from_numpy(matrix).to(vectors.dtype), torch.from_numpy(mean).to(vectors.dtype))


def _numbers(vectors: Tensor) -> NDArray[np.float64]:
    return np.asarray(vectors.double().cpu().numpy(), np.float64)
