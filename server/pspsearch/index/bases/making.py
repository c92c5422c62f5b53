"""Makes bases, from a plan or from a file."""

from pathlib import Path

import faiss
import numpy as np

from pspsearch.index.arrays import Matrix
from pspsearch.index.bases.approximate_base import ApproximateBase
from pspsearch.index.bases.base import Base
from pspsearch.index.bases.base_file import IndexDamaged, read_base_file
from pspsearch.index.bases.exact_base import ExactBase
from pspsearch.index.bases.threads import one_thread
from pspsearch.index.candidates.finder import Advance, Finder, FinderFailed, part
from pspsearch.index.candidates.gpu import GpuFlatFinder, GpuIvfFinder, find_device
from pspsearch.index.candidates.hnsw import HnswFinder
from pspsearch.index.candidates.ivf import IvfFinder
from pspsearch.index.candidates.plan import ExactPlan, GpuFlatPlan, GpuIvfPlan, HnswPlan, IvfPlan, Plan
from pspsearch.index.memory import Device

__all__ = ["IndexDamaged", "build_base", "read_base"]


def build_base(plan: Plan, matrix: Matrix, target_recall: float, advance: Advance) -> Base:
    """Builds a base over all rows of the matrix, whose memory must not change while the base lives.

    Any thread may call this, and FAISS then uses only that thread. The same input gives the same base. `advance` hears
    the share that is done, and ends the work by raising.
    """
    matrix = np.asarray(matrix)  # taking rows from a memory map is slow
    if isinstance(plan, ExactPlan):
        advance(1.0)
        return ExactBase(plan, matrix)
    with one_thread():
        finder = _build_finder(plan, matrix, part(advance, 0.0, 0.7))
        return ApproximateBase.tuned(finder, matrix, target_recall, part(advance, 0.7, 1.0))


def _build_finder(plan: IvfPlan | HnswPlan | GpuFlatPlan | GpuIvfPlan, matrix: Matrix, advance: Advance) -> Finder:
    match plan:
        case IvfPlan():
            return IvfFinder.built(plan, matrix, advance)
        case HnswPlan():
            return HnswFinder.built(plan, matrix, advance)
        case GpuFlatPlan():
            return GpuFlatFinder.built(plan, matrix, advance)
        case GpuIvfPlan():
            return GpuIvfFinder.built(plan, matrix, advance)


def read_base(path: Path, matrix: Matrix) -> Base:
    """Reads a base over the first rows of the matrix, which must be the rows that it was built over.

    Raises IndexDamaged if the file is not that of a base, or not of one over such a matrix.
    """
    header, index = read_base_file(path)
    plan = header.plan
    if len(matrix) < header.rows or matrix.shape[1] != plan.dimension:
        raise IndexDamaged(f"{path}: it covers {header.rows} rows of {plan.dimension}, which the matrix has not")
    covered = np.asarray(matrix[: header.rows])
    if isinstance(plan, ExactPlan):
        return ExactBase(plan, covered)
    try:
        finder = _read_finder(path, plan, index, covered)
    except FinderFailed as error:
        raise IndexDamaged(f"{path}: {error}") from error
    if finder.rows != header.rows or not header.effort or header.target_recall is None:
        raise IndexDamaged(f"{path}: its parts contradict each other")
    return ApproximateBase(finder, covered, header.effort, header.target_recall, header.measured_recall or 0.0)


def _read_finder(
    path: Path, plan: IvfPlan | HnswPlan | GpuFlatPlan | GpuIvfPlan, index: faiss.Index | None, matrix: Matrix
) -> Finder:
    on_gpu = isinstance(plan, GpuFlatPlan | GpuIvfPlan)
    if on_gpu and find_device() is not Device.GPU:
        raise IndexDamaged(f"{path}: it is for a GPU, and there is none")
    match plan, index:
        case IvfPlan(), faiss.IndexIVFPQFastScan():
            with one_thread():  # a graph that several threads make is another one each time
                return IvfFinder(plan, index)
        case HnswPlan(), faiss.IndexHNSWSQ():
            return HnswFinder.read(plan, index, matrix)
        case GpuFlatPlan(), None:
            return GpuFlatFinder.built(plan, matrix, lambda _: None)
        case GpuIvfPlan(), faiss.IndexIVFPQ():
            return GpuIvfFinder.read(plan, index)
        case _:
            raise IndexDamaged(f"{path}: it holds another index than its plan says")
