"""Places the centres of an index's lists."""

import faiss
import numpy as np

from pspsearch.domain import Descriptors
from pspsearch.index.arrays import Matrix
from pspsearch.index.candidates.finder import Advance

ROUNDS = 10

SEED = 1


def draw_training_rows(matrix: Matrix, rows: int) -> Descriptors:
    """Returns `rows` rows of the matrix, or all if it has fewer; always the same ones."""
    chosen = np.random.default_rng(SEED).choice(len(matrix), min(rows, len(matrix)), replace=False)
    return matrix[np.sort(chosen)].astype(np.float32)


def cluster(sample: Descriptors, count: int, advance: Advance) -> faiss.IndexFlatIP:
    """Returns the centres of `count` lists by k-means, one round at a time to report progress and allow a stop."""
    parameters = faiss.ClusteringParameters()
    parameters.niter = 1
    parameters.spherical = True
    parameters.seed = SEED
    parameters.min_points_per_centroid = 1  # the planner has made sure of enough points
    parameters.max_points_per_centroid = len(sample)
    clustering = faiss.Clustering(sample.shape[1], count, parameters)
    quantizer = faiss.IndexFlatIP(sample.shape[1])
    for done in range(1, ROUNDS + 1):
        clustering.train(sample, quantizer)
        advance(done / ROUNDS)
    return quantizer
