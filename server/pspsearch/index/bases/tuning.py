"""Finds how hard a base must search, measured on the collection's own rows."""

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
"""Recall is measured over this many nearest rows."""

DEPTH = MEASURED_AT + 1
"""How many rows are asked for: one more, because the row that a query was made from does not count."""

BLOCK_ROWS = 1 << 14
"""How many rows are widened to float32 at a time."""

MOVED = 0.75
"""How far queries are from the rows that they were made from, as a share of the distance to the nearest other row."""

REFINE_COST = 6
"""What a byte of a candidate's descriptor costs to fetch and widen, in bytes of codes read in sequence."""


@dataclass(frozen=True, slots=True)
class Queries:
    """How many queries a sample has. Each is compared with every row, twice."""

    fewest: int
    most: int
    scored_rows: int
    """The most rows that all queries score together, unless the fewest queries already score more."""

    def of(self, rows: int) -> int:
        """Returns the number of queries for a matrix of `rows` rows."""
        return max(self.fewest, min(self.most, self.scored_rows // max(1, rows)))


TO_TUNE = Queries(200, 1000, 400_000_000)
"""The sample to tune by, and the size of the other to measure with. At best the standard error is about 0.003."""

TO_MEASURE_AGAIN = Queries(100, 500, 20_000_000)
"""The sample for an extended base, of which there are many."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Queries with their true answers."""

    queries: Descriptors
    origins: RowNumbers
    """The row that each query was made from, which is no answer to it."""
    truth: RowNumbers
    """The ten nearest other rows; -1 if there are fewer."""


def draw_sample(matrix: Matrix, queries: int, seed: int, advance: Advance) -> Sample:
    """Draws rows of the matrix as queries, each moved in a random direction, but less far than its nearest neighbour.

    A graph's links were chosen for its own rows, so unmoved rows would make it look too good. Rows moved further leave
    the places where rows lie. Against pictures that the base had never seen, described by the shipped model, the recall
    of such queries was 0.010 too low with lists and 0.006 too high with a graph. The same input draws the same sample.
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
    return _unit(originals + MOVED * distances * _unit(directions))


def _unit(vectors: Descriptors) -> Descriptors:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _nearest(
    matrix: Matrix, queries: Descriptors, count: int, advance: Advance
) -> tuple[NDArray[np.float32], RowNumbers]:
    """Returns the `count` best rows of the whole matrix by float32 products, one block of rows at a time."""
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
    """Returns the first ten rows of each answer, without the row that its query was made from."""
    others = np.argsort(rows == origins[:, None], axis=1, kind="stable")[:, :MEASURED_AT]
    kept = np.take_along_axis(rows, others, axis=1)
    return np.where(kept == origins[:, None], -1, kept)


def recalls(found: RowNumbers, truth: RowNumbers) -> NDArray[np.float64]:
    """Returns, for each query with a true answer, the share of it that was found."""
    hits = (found[:, :, None] == truth[:, None, :]).any(axis=1) & (truth >= 0)
    there = (truth >= 0).sum(axis=1)
    return hits.sum(axis=1)[there > 0] / there[there > 0]


def measure(search: Callable[[Descriptors, int], RowNumbers], sample: Sample) -> float:
    """Returns the recall of a search on the sample; 1 if there is nothing to find."""
    found = search(sample.queries, DEPTH)
    shares = recalls(without_origins(found, sample.origins), sample.truth)
    return float(shares.mean()) if len(shares) else 1.0


def tune(finder: Finder, dimension: int, sample: Sample, target_recall: float) -> Effort:
    """Returns the least effort that reaches the target on the sample, by more than twice its standard error.

    Returns the greatest effort if none does.
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
    """Returns the least effort with that breadth, or None.

    A true answer among the candidates is found, because they are scored exactly.
    """
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
    """Returns the cost of one query for ten rows, in bytes of codes."""
    refined_bytes = MEASURED_AT * effort.k_factor * 2 * dimension
    return finder.visited_bytes(effort.breadth) + REFINE_COST * refined_bytes
