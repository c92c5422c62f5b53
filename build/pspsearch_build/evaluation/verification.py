"""How well a threshold on the score tells pairs of one class from pairs of two."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import auc, roc_curve

from pspsearch_build.errors import BuildError
from pspsearch_build.evaluation.retrieval import Descriptors, Labels

MOST_PAIRS = 500_000
"""Of each kind; where there are more, so many are drawn."""


@dataclass(frozen=True, slots=True)
class Verification:
    """The trade between the two mistakes."""

    false_accepts: NDArray[np.float64]
    """The share of pairs of two classes that score at least the threshold, for thresholds from high to low."""
    true_accepts: NDArray[np.float64]
    """The share of pairs of one class that do, for the same thresholds."""
    area: float
    """Under the curve of the one over the other: the chance that a pair of one class scores higher."""
    equal_error_rate: float
    """Where as many pairs of one class are refused as pairs of two are accepted."""
    equal_error_score: float
    """The threshold there."""


def verify(descriptors: Descriptors, labels: Labels, seed: int = 0) -> Verification:
    """All pairs of the rows, or as many as MOST_PAIRS allows; BuildError where a kind of pair does not occur."""
    first, second = np.triu_indices(len(labels), 1)
    same = labels[first] == labels[second]
    if same.all() or not same.any():
        raise BuildError("verification needs pairs of one class and pairs of two")
    random = np.random.default_rng(seed)
    chosen = np.concatenate([_draw(np.flatnonzero(kind), random) for kind in (same, ~same)])
    scores = np.einsum("nd,nd->n", descriptors[first[chosen]], descriptors[second[chosen]])
    return _measure(scores, same[chosen])


def _draw(pairs: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
    return pairs if len(pairs) <= MOST_PAIRS else random.choice(pairs, MOST_PAIRS, replace=False)


def _measure(scores: NDArray[np.float32], same: NDArray[np.bool_]) -> Verification:
    false_accepts, true_accepts, thresholds = roc_curve(same, scores)
    false_refusals = 1 - true_accepts
    # Between the last point where more are refused and the first where more are accepted, the curve is a line.
    after = int(np.argmax(false_accepts >= false_refusals))
    gaps = (false_refusals - false_accepts)[after - 1 : after + 1]
    share = gaps[0] / (gaps[0] - gaps[1])
    rate = (1 - share) * false_accepts[after - 1] + share * false_accepts[after]
    area = auc(false_accepts, true_accepts)
    return Verification(false_accepts, true_accepts, area, float(rate), float(thresholds[after]))
