"""How hard a base has to look, found out on the collection's own rows."""

from collections.abc import Callable
from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from pspsearch.domain import Descriptors
from pspsearch.index.arrays import Matrix, RowNumbers
from pspsearch.index.candidates.finder import Advance, Effort, Finder, part
from pspsearch.index.scoring import as_float32
from pspsearch.index.selection import Selection

MEASURED_AT = 10
"""Recall is that of so many nearest rows."""

DEPTH = MEASURED_AT + 1
"""How many rows are asked for: the one that a query was made of is among the nearest, and does not count."""

BLOCK_ROWS = 1 << 14
"""How many rows are widened to float32 at a time."""

REFINE_COST = 6
"""What a byte of a candidate's descriptor costs, fetched from anywhere and widened, in bytes of codes read in a row."""


@dataclass(frozen=True, slots=True)
class Queries:
    """How many a sample has: each is held against every row, twice."""

    fewest: int
    most: int
    scored_rows: int
    """By all of them together, where the fewest do not score more."""

    def of(self, rows: int) -> int:
        """For a matrix of so many."""
        return max(self.fewest, min(self.most, self.scored_rows // max(1, rows)))


TO_TUNE = Queries(200, 1000, 400_000_000)
"""To choose by, and as many others to measure with: at best for a standard error of about 0.003."""

TO_MEASURE_AGAIN = Queries(100, 500, 20_000_000)
"""For an extended base, of which there are many."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Queries with their true answers."""

    queries: Descriptors
    origins: RowNumbers
    """The row that each was made of, which is no answer to it."""
    truth: RowNumbers
    """The ten nearest others; -1 where there are not so many."""


def draw_sample(matrix: Matrix, queries: int, seed: int, advance: Advance) -> Sample:
    """Up to so many rows of the matrix, each moved in a random direction half as far as its nearest neighbour is away.

    A row of the base as it is makes a graph look too good, whose links were chosen to be right for it; one that is
    moved further leaves the places where rows lie. A half is a little too kind: with descriptors of the shipped model
    the recall of such queries was by 0.011 (lists) and 0.014 (graph) better than that of pictures which the base had
    never seen. The same input draws the same sample.
    """
    random = np.random.default_rng(seed)
    origins = np.sort(random.choice(len(matrix), min(queries, len(matrix)), replace=False))
    originals = matrix[origins].astype(np.float32)
    moved = _moved(matrix, originals, random, part(advance, 0.0, 0.5))
    _, nearest = _nearest(matrix, moved, DEPTH, part(advance, 0.5, 1.0))
    return Sample(moved, origins, without_origins(nearest, origins))


def _moved(matrix: Matrix, originals: Descriptors, random: np.random.Generator, advance: Advance) -> Descriptors:
    scores, _ = _nearest(matrix, originals, 2, advance)  # the best is the row itself
    distances = np.sqrt(np.clip(2 - 2 * scores[:, -1:], 0, 2))
    directions = random.standard_normal(originals.shape, dtype=np.float32)
    return _unit(originals + distances / 2 * _unit(directions))


def _unit(vectors: Descriptors) -> Descriptors:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _nearest(
    matrix: Matrix, queries: Descriptors, count: int, advance: Advance
) -> tuple[NDArray[np.float32], RowNumbers]:
    """The `count` best of the whole matrix by float32 products, a block of rows at a time."""
    scores = np.full((len(queries), count), -np.inf, np.float32)
    rows = np.full((len(queries), count), -1, np.int64)
    for start in range(0, len(matrix), BLOCK_ROWS):
        block = as_float32(matrix[start : start + BLOCK_ROWS])
        near, places = faiss.knn(queries, block, min(count, len(block)), faiss.METRIC_INNER_PRODUCT)
        scores, rows = np.hstack([scores, near]), np.hstack([rows, places + start])
        best = np.argsort(-scores, axis=1, kind="stable")[:, :count]
        scores, rows = np.take_along_axis(scores, best, axis=1), np.take_along_axis(rows, best, axis=1)
        advance(min(1.0, (start + BLOCK_ROWS) / len(matrix)))
    return scores, rows


def without_origins(rows: RowNumbers, origins: RowNumbers) -> RowNumbers:
    """The first ten of each answer that are not the row its query was made of."""
    others = np.argsort(rows == origins[:, None], axis=1, kind="stable")[:, :MEASURED_AT]
    kept = np.take_along_axis(rows, others, axis=1)
    return np.where(kept == origins[:, None], -1, kept)


def recalls(found: RowNumbers, truth: RowNumbers) -> NDArray[np.float64]:
    """For each query with a true answer, the share of it that was found."""
    hits = (found[:, :, None] == truth[:, None, :]).any(axis=1) & (truth >= 0)
    there = (truth >= 0).sum(axis=1)
    return hits.sum(axis=1)[there > 0] / there[there > 0]


def measure(search: Callable[[Descriptors, int], RowNumbers], sample: Sample) -> float:
    """The recall of a search on the sample; 1 where there is nothing to find."""
    found = search(sample.queries, DEPTH)
    shares = recalls(without_origins(found, sample.origins), sample.truth)
    return float(shares.mean()) if len(shares) else 1.0


def tune(finder: Finder, dimension: int, sample: Sample, target_recall: float) -> Effort:
    """The least effort that reaches the target on the sample, by more than twice the sample's own standard error.

    The greatest there is where none does.
    """
    best: Effort | None = None
    for breadth in finder.breadths:
        if best and _cost(finder, dimension, Effort(breadth, finder.k_factors[0])) >= _cost(finder, dimension, best):
            break
        effort = _least_effort(finder, breadth, sample, target_recall)
        if effort and (best is None or _cost(finder, dimension, effort) < _cost(finder, dimension, best)):
            best = effort
    return best or Effort(finder.breadths[-1], finder.k_factors[-1])


def _least_effort(finder: Finder, breadth: int, sample: Sample, target_recall: float) -> Effort | None:
    """With that breadth. A true answer among the candidates is found, because they are scored exactly."""
    everything = Selection.of(None, finder.rows)
    candidates = finder.find(sample.queries, DEPTH * finder.k_factors[-1], breadth, everything)
    for k_factor in finder.k_factors:
        shares = recalls(candidates[:, : DEPTH * k_factor], sample.truth)
        if _surely_reaches(shares, target_recall):
            return Effort(breadth, k_factor)
    return None


def _surely_reaches(shares: NDArray[np.float64], target_recall: float) -> bool:
    if len(shares) == 0:
        return True
    return float(shares.mean() - 2 * shares.std() / np.sqrt(len(shares))) >= target_recall


def _cost(finder: Finder, dimension: int, effort: Effort) -> float:
    """Of one query for ten rows, in bytes of codes."""
    refined_bytes = MEASURED_AT * effort.k_factor * 2 * dimension
    return finder.visited_bytes(effort.breadth) + REFINE_COST * refined_bytes
