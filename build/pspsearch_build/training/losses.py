"""What training minimises: losses over the pairs of a batch, and losses over learned directions of the classes."""

from collections.abc import Callable
from enum import StrEnum
from typing import Literal

import msgspec
from pytorch_metric_learning import distances, losses, miners
from torch import Tensor, nn
from torch.nn import functional


class LossName(StrEnum):
    """The losses to choose from; the first three look at pairs, the others at classes."""

    CONTRASTIVE = "contrastive"
    """Siamese: pairs of one class score at least one margin, pairs of two classes at most the other."""
    TRIPLET = "triplet"
    """A picture scores higher with its own class than with another, by a margin."""
    MULTI_SIMILARITY = "multi_similarity"
    """Weights pairs by how hard they are, by themselves and relative to the others."""
    PROXY_ANCHOR = "proxy_anchor"
    """A learned direction per class attracts its own pictures and repels the others."""
    ARCFACE = "arcface"
    """Softmax over angles to learned directions, with a margin."""
    NORMALISED_SOFTMAX = "normalised_softmax"
    """Softmax over scores with learned directions."""
    SOFTMAX = "softmax"
    """A linear layer and cross-entropy."""


ON_PAIRS = frozenset({LossName.CONTRASTIVE, LossName.TRIPLET, LossName.MULTI_SIMILARITY})


class LossOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of the losses; each loss reads its own."""

    positive_margin: float = 0.9
    """Contrastive: pairs of one class that score less are drawn together."""
    negative_margin: float = 0.4
    """Contrastive: pairs of two classes that score more are driven apart."""
    triplet_margin: float = 0.1
    triplets: Literal["all", "hard", "semihard"] = "semihard"
    """The triplets used: "hard" if the wrong score is higher, "semihard" if the right one is higher by too little."""
    proxy_margin: float = 0.1
    proxy_scale: float = 32.0
    angle_degrees: float = 28.6
    """ArcFace's margin."""
    angle_scale: float = 64.0
    temperature: float = 0.05
    """Normalised softmax divides scores by it."""


class Loss(nn.Module):
    """A loss over descriptors and labels, in FP32; its parameters are the learned directions of the classes.

    Rows with labels from `classes` on have no known class, only the same label as their other views. Losses on pairs
    use them, and losses on classes ignore them.
    """

    def __init__(self, loss: nn.Module, classes: int, *, on_pairs: bool, miner: nn.Module | None = None) -> None:
        super().__init__()
        self.loss, self.miner = loss, miner
        self._classes, self._on_pairs = classes, on_pairs

    def forward(self, descriptors: Tensor, labels: Tensor) -> Tensor:
        """Maps [count, dimension] and [count] to one number; 0 if the batch holds nothing for this loss."""
        rows = descriptors.float()
        if not self._on_pairs:
            known = labels < self._classes
            rows, labels = rows[known], labels[known]
        if len(rows) == 0:
            return descriptors.sum() * 0
        chosen = () if self.miner is None else (self.miner(rows, labels),)
        return self.loss(rows, labels, *chosen)


class _LinearSoftmax(nn.Module):
    def __init__(self, classes: int, dimension: int) -> None:
        super().__init__()
        self.layer = nn.Linear(dimension, classes)

    def forward(self, rows: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(self.layer(rows), labels)


_DEFAULTS = LossOptions()


def make_loss(name: LossName, classes: int, dimension: int, options: LossOptions = _DEFAULTS) -> Loss:
    """The loss of that name, for labels 0 to `classes` - 1 and descriptors of that dimension."""
    loss, miner = _MAKERS[name](classes, dimension, options)
    return Loss(loss, classes, on_pairs=name in ON_PAIRS, miner=miner)


_Made = tuple[nn.Module, nn.Module | None]


def _contrastive(_classes: int, _dimension: int, options: LossOptions) -> _Made:
    cosine = distances.CosineSimilarity()
    return losses.ContrastiveLoss(options.positive_margin, options.negative_margin, distance=cosine), None


def _triplet(_classes: int, _dimension: int, options: LossOptions) -> _Made:
    cosine = distances.CosineSimilarity()
    miner = miners.TripletMarginMiner(options.triplet_margin, options.triplets, distance=cosine)
    return losses.TripletMarginLoss(options.triplet_margin, distance=cosine), miner


def _multi_similarity(_classes: int, _dimension: int, _options: LossOptions) -> _Made:
    return losses.MultiSimilarityLoss(alpha=2, beta=50, base=0.5), miners.MultiSimilarityMiner(epsilon=0.1)


def _proxy_anchor(classes: int, dimension: int, options: LossOptions) -> _Made:
    return losses.ProxyAnchorLoss(classes, dimension, options.proxy_margin, options.proxy_scale), None


def _arcface(classes: int, dimension: int, options: LossOptions) -> _Made:
    return losses.ArcFaceLoss(classes, dimension, options.angle_degrees, options.angle_scale), None


def _normalised_softmax(classes: int, dimension: int, options: LossOptions) -> _Made:
    return losses.NormalizedSoftmaxLoss(classes, dimension, options.temperature), None


def _softmax(classes: int, dimension: int, _options: LossOptions) -> _Made:
    return _LinearSoftmax(classes, dimension), None


_MAKERS: dict[LossName, Callable[[int, int, LossOptions], _Made]] = {
    LossName.CONTRASTIVE: _contrastive,
    LossName.TRIPLET: _triplet,
    LossName.MULTI_SIMILARITY: _multi_similarity,
    LossName.PROXY_ANCHOR: _proxy_anchor,
    LossName.ARCFACE: _arcface,
    LossName.NORMALISED_SOFTMAX: _normalised_softmax,
    LossName.SOFTMAX: _softmax,
}
