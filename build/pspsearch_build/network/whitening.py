"""Linear maps to fewer numbers: whitenings, which make all directions count, and compressions, which keep scores."""

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

    Adds `shrinkage` times the mean variance to every variance. 0 whitens fully, and amplifies directions in which few
    vectors vary; large values only rotate.
    """
    samples = _numbers(vectors)
    found = PCA(kept, random_state=0).fit(samples)
    deviations = np.sqrt(found.explained_variance_ + shrinkage * samples.var(axis=0).mean())
    matrix = found.components_ / deviations[:, None]
    return Whitening(torch.from_numpy(matrix).to(vectors.dtype), torch.from_numpy(found.mean_).to(vectors.dtype))


def fit_whitening_within(vectors: Tensor, labels: Tensor, kept: int, shrinkage: float) -> Whitening:
    """Whitens how pictures of one class differ, then keeps the `kept` directions in which the classes differ most.

    This damps directions in which a class is spread out, because they say little, and stretches those in which its
    pictures agree. `labels` [count] are whole numbers; `shrinkage` works as in `fit_whitening`.
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


_EVENNESS = 0.25
"""How far a compression goes from keeping scores (0) to whitening (1); a quarter was the best of five values, for
pictures of six kinds.
"""


def fit_compression(vectors: Tensor, kept: int, beside: Tensor | None = None) -> Tensor:
    """The matrix [kept, dimension] onto the strongest directions of vectors [count, dimension], as unit vectors.

    It does not centre, because a trained network knows where zero is. So scores stay nearly the same, except that
    strong directions are damped a little. The pictures to fit on are of few kinds and do not show everything that
    matters, so `beside` [other count, dimension] may add directions, such as those of the classifier that the network
    was trained with. They count as much as the vectors.
    """
    rows = _numbers(vectors)
    moment = _moment(rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12))
    if beside is not None:
        others = _numbers(beside)
        moment += _moment(others - others.mean(axis=0))
    strengths, directions = np.linalg.eigh(moment)
    strengths, directions = strengths[::-1][:kept], directions[:, ::-1][:, :kept].T
    gains = (strengths / strengths[0]).clip(1e-9) ** (-_EVENNESS / 2)
    return torch.from_numpy(directions * gains[:, None]).to(vectors.dtype)


def _moment(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The second moment, scaled to trace 1."""
    moment = rows.T @ rows
    return moment / np.trace(moment)


def _numbers(vectors: Tensor) -> NDArray[np.float64]:
    return np.asarray(vectors.double().cpu().numpy(), np.float64)
