"""Do all forms of a network give the same descriptors, and the same answers to a search?

The reference is the network in torch, in FP32, with one photograph at a time. Every form is compared with it in two
ways:

*Cosine.* Each descriptor, including each cell's, must have at least cosine c to the reference's: 0.99999 for an FP32
form, 0.999 for one with FP16 or bf16 inside.

*Top-10.* Each photograph is a query to all the others. If the scores of two hits differ by less than the form's
rounding, they are tied: their order, or which of them comes tenth, says nothing about the form. So a top-10 counts as
the same if it is a top-10 by the REFERENCE's scores, up to a tolerance t: it holds no hit that scores less than the
reference's tenth minus t, and misses none that scores more than the tenth plus t.

The tolerance follows from the bound c and the dimension D. A descriptor at cosine c has moved by a chord of
sqrt(2 - 2c). If it moves equally in any of D directions, the difference of two scores, which holds four such moves,
has a standard deviation of at most 2 chords over sqrt(D). t is two of these: 0.0112 at c = 0.999 and D = 256. In
simulations from 64 to 512 dimensions, a form exactly at the bound passes narrowly, and one half as wrong passes.

99 % of the queries must have the same top-10. The strict share (exactly the same ten, ties or not) and the mean
overlap are printed, too, but decide nothing.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pspsearch.model.contract import DESCRIPTOR
from pspsearch_build.errors import ParityError
from pspsearch_build.forms import Form, Outputs, Pixels

BATCHES = (1, 8)
HITS = 10
LEAST_PHOTOGRAPHS = 3 * HITS
"""With fewer, a top-10 is most of the gallery and shows nothing."""
LEAST_SAME_SHARE = 0.99

_Scores = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Ranking:
    """How a form's top-10 compares with the reference's, over all queries."""

    tolerance: float
    """Two scores that differ by less are tied."""
    same_share: float
    strict_share: float
    mean_overlap: float
    """The mean share of the ten hits that both have in common."""


@dataclass(frozen=True, slots=True)
class Row:
    """The result for one output of one form at one batch size."""

    form: str
    batch: int
    output: str
    least_cosine: float
    """NaN if the form answered with NaN."""
    mean_cosine: float
    bound: float
    """What `least_cosine` must reach."""
    ranking: Ranking | None
    """None for the cells, because no search returns them."""

    @property
    def passed(self) -> bool:
        """Whether the row is within the bounds; NaN is not."""
        same = self.ranking is None or self.ranking.same_share >= LEAST_SAME_SHARE
        return self.least_cosine >= self.bound and same


def compare_forms(
    reference: Form, others: Sequence[Form], pixels: Pixels, advance: Callable[[int], None] = lambda _: None
) -> list[Row]:
    """The rows for the reference itself in batches, then for every other form at every batch size.

    `pixels` must hold at least LEAST_PHOTOGRAPHS photographs. `advance` receives how many more have been described.
    """
    if len(pixels) < LEAST_PHOTOGRAPHS:
        raise ParityError(f"parity needs at least {LEAST_PHOTOGRAPHS} photographs, not {len(pixels)}")
    expected = _run(reference, pixels, BATCHES[0], advance)
    runs = [(reference, batch) for batch in BATCHES[1:]] + [(form, batch) for form in others for batch in BATCHES]
    return [row for form, batch in runs for row in _compare(form, batch, expected, _run(form, pixels, batch, advance))]


def count_runs(others: int) -> int:
    """How often `compare_forms` describes every photograph, given `others` forms beside the reference."""
    return len(BATCHES) * (1 + others)


def score_tolerance(least_cosine: float, dimension: int) -> float:
    """How far apart two tied scores may be, if descriptors have at least `least_cosine`; see the module."""
    return 4 * math.sqrt((2 - 2 * least_cosine) / dimension)


def compare_rankings(reference: _Scores, scores: _Scores, tolerance: float) -> Ranking:
    """Compares two score matrices [queries, gallery]; -inf excludes an image from a query's gallery."""
    tenth = np.sort(reference, axis=1)[:, -HITS, None]
    hit, expected = _top(scores), _top(reference)
    wrongly_in = (hit & (reference < tenth - tolerance)).any(axis=1)
    wrongly_out = (~hit & (reference > tenth + tolerance)).any(axis=1)
    overlap = (hit & expected).sum(axis=1) / HITS
    return Ranking(
        tolerance=tolerance,
        same_share=float((~wrongly_in & ~wrongly_out).mean()),
        strict_share=float((overlap == 1).mean()),
        mean_overlap=float(overlap.mean()),
    )


def _compare(form: Form, batch: int, expected: Outputs, outputs: Outputs) -> list[Row]:
    bound = 0.999 if form.half else 0.99999
    rows: list[Row] = []
    for name, reference in expected.items():
        cosines = _cosines(reference, outputs[name])
        ranking = _rank(reference, outputs[name], bound) if name == DESCRIPTOR else None
        rows.append(Row(form.name, batch, name, float(cosines.min()), float(cosines.mean()), bound, ranking))
    return rows


def _rank(reference: NDArray[np.float32], descriptors: NDArray[np.float32], bound: float) -> Ranking:
    return compare_rankings(_scores(reference), _scores(descriptors), score_tolerance(bound, reference.shape[1]))


def _run(form: Form, pixels: Pixels, batch: int, advance: Callable[[int], None]) -> Outputs:
    """The outputs for all pixels, batch by batch; the last batch may be smaller."""
    parts: list[Outputs] = []
    for start in range(0, len(pixels), batch):
        parts.append(form.run(pixels[start : start + batch]))
        advance(len(pixels[start : start + batch]))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _cosines(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosines along the last axis, in double precision: FP32 rounds by as much as the bound."""
    a, b = left.astype(np.float64), right.astype(np.float64)
    return (a * b).sum(axis=-1) / np.sqrt((a * a).sum(axis=-1) * (b * b).sum(axis=-1))


def _scores(descriptors: NDArray[np.float32]) -> _Scores:
    """The score of each descriptor with every other; none is its own hit."""
    scores = descriptors @ descriptors.T
    np.fill_diagonal(scores, -np.inf)
    return scores


def _top(scores: _Scores) -> NDArray[np.bool_]:
    """Marks each query's ten best; of equal scores the first win."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :HITS]
    hit = np.zeros(scores.shape, np.bool_)
    np.put_along_axis(hit, best, values=True, axis=1)
    return hit
