"""Where the lists of an index lie."""

import faiss
import numpy as np

from pspsearch.domain import Descriptors
from pspsearch.index.arrays import Matrix
from pspsearch.index.candidates.finder import Advance

ROUNDS = 10

SEED = 1


def draw_training_rows(matrix: Matrix, rows: int) -> Descriptors:
    """So many rows of the matrix, at most all, always the same ones."""
    chosen = np.random.default_rng(SEED).choice(len(matrix), min(rows, len(matrix)), replace=False)
    return matrix[np.sort(chosen)].astype(np.float32)


def cluster(sample: Descriptors, count: int, advance: Advance) -> faiss.IndexFlatIP:
    """The centres of `count` lists by k-means, a round at a time, so that there is progress and a chance to stop."""
    parameters = faiss.ClusteringParameters()
    parameters.niter = 1
    parameters.spherical = True
    parameters.seed = SEED
    parameters.min_points_per_centroid = 1  # the planner saw to that
    parameters.max_points_per_centroid = len(sample)
    clustering = faiss.Clustering(sample.shape[1], count, parameters)
    quantizer = faiss.IndexFlatIP(sample.shape[1])
    for done in range(1, ROUNDS + 1):
        clustering.train(sample, quantizer)
        advance(done / ROUNDS)
    return quantizer
