"""How well a threshold on the score separates pairs of one class from pairs of two."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import auc, roc_curve

from pspsearch_build.errors import BuildError
from pspsearch_build.evaluation.retrieval import Descriptors, Labels

MOST_PAIRS = 500_000
"""The most pairs of each kind; if there are more, as many are drawn at random."""


@dataclass(frozen=True, slots=True)
class Verification:
    """The trade-off between false accepts and false refusals."""

    false_accepts: NDArray[np.float64]
    """The share of pairs of two classes that score at least the threshold, for thresholds from high to low."""
    true_accepts: NDArray[np.float64]
    """The share of pairs of one class that do, for the same thresholds."""
    area: float
    """The area under the ROC curve: the chance that a pair of one class outscores a pair of two."""
    equal_error_rate: float
    """The rate at which both mistakes are equally frequent."""
    equal_error_score: float
    """The threshold at that rate."""


def verify(descriptors: Descriptors, labels: Labels, seed: int = 0) -> Verification:
    """Judges all pairs of the rows, or at most MOST_PAIRS of a kind. Raises BuildError if a kind does not occur."""
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
    # Between the last point with more refusals and the first with more accepts, the curve is a line.
    after = int(np.argmax(false_accepts >= false_refusals))
    gaps = (false_refusals - false_accepts)[after - 1 : after + 1]
    share = gaps[0] / (gaps[0] - gaps[1])
    rate = (1 - share) * false_accepts[after - 1] + share * false_accepts[after]
    area = auc(false_accepts, true_accepts)
    return Verification(false_accepts, true_accepts, area, float(rate), float(thresholds[after]))
