"""Chooses the base that suits a collection, by size, dimension, memory and device."""

import math

from pspsearch.domain import IndexKind
from pspsearch.index.candidates.plan import (
    POINTS_PER_LIST,
    ExactPlan,
    GpuFlatPlan,
    GpuIvfPlan,
    HnswPlan,
    IvfPlan,
    Plan,
    ideal_lists,
)
from pspsearch.index.memory import IndexMemory

EXACT_SCAN_BYTES = 25_600_000
"""What one core scores in 2 ms: 12.8 GB/s of fp16, which is 50,000 rows of dimension 256."""

GPU_SCAN_BYTES = 1_000_000_000
"""What a GPU with 500 GB/s reads in 2 ms."""

FEWEST_LISTS = 16

FEWEST_IVF_ROWS = FEWEST_LISTS * POINTS_PER_LIST

FEWEST_GPU_IVF_ROWS = 256 * POINTS_PER_LIST
"""An 8-bit sub-quantiser needs this many rows to train."""

TRAINING_BYTES = 1 << 28
"""The most memory that a training sample takes, as float32."""

MOST_SUBQUANTISERS = 256
"""More of them would overflow the 16-bit sums of fast scan."""

GPU_SUBQUANTISERS = (96, 64, 56, 48, 40, 32, 28, 24, 20, 16, 12, 8, 4)
GPU_SUBDIMENSIONS = (2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 28, 32)
"""The numbers of sub-quantisers and their dimensions that FAISS's IVF-PQ on a GPU is compiled for."""


def choose_plan(rows: int, dimension: int, kind: IndexKind, memory: IndexMemory) -> Plan:
    """Chooses the plan for this many rows.

    A kind asked for by name is taken if possible: lists need enough rows to be trained, and a graph must fit into the
    memory.
    """
    if memory.gpu_bytes is not None and kind is not IndexKind.HNSW and rows:
        plan = _choose_on_gpu(rows, dimension, kind, memory.gpu_bytes)
        if plan is not None:
            return plan
    exact_rows = EXACT_SCAN_BYTES // (2 * dimension)
    if kind is IndexKind.EXACT or (kind is IndexKind.AUTO and rows <= exact_rows):
        return ExactPlan(dimension, most_rows=exact_rows if kind is IndexKind.AUTO else None)
    if kind is IndexKind.HNSW:
        graph = _plan_hnsw(dimension, memory.cpu_bytes)
        if graph.fits(rows):
            return graph
    return _plan_ivf(rows, dimension, memory.cpu_bytes)


def _choose_on_gpu(rows: int, dimension: int, kind: IndexKind, memory_bytes: int) -> GpuFlatPlan | GpuIvfPlan | None:
    held_rows = memory_bytes // (2 * 2 * dimension)  # twice, because the next base is there before this one goes
    scanned_rows = held_rows if kind is IndexKind.EXACT else min(held_rows, GPU_SCAN_BYTES // (2 * dimension))
    if kind is not IndexKind.IVF and rows <= scanned_rows:
        return GpuFlatPlan(dimension, most_rows=scanned_rows)
    count = _gpu_subquantisers(dimension)
    if kind is IndexKind.EXACT or count is None or rows < FEWEST_GPU_IVF_ROWS:
        return None
    if 2 * rows * (count + 8) > memory_bytes:
        return None
    lists = ideal_lists(rows)
    return GpuIvfPlan(dimension, lists, count, training_rows=_training_rows(rows, dimension, lists))


def _gpu_subquantisers(dimension: int) -> int | None:
    return next((m for m in GPU_SUBQUANTISERS if dimension % m == 0 and dimension // m in GPU_SUBDIMENSIONS), None)


def _plan_hnsw(dimension: int, memory_bytes: int) -> HnswPlan:
    row_bytes = HnswPlan(dimension, most_rows=0).row_bytes
    building_bytes = 2 * dimension  # while it is built, the graph keeps descriptors of its own
    return HnswPlan(dimension, most_rows=memory_bytes // (row_bytes + building_bytes))


def _plan_ivf(rows: int, dimension: int, memory_bytes: int) -> ExactPlan | IvfPlan:
    if rows < FEWEST_IVF_ROWS:
        return ExactPlan(dimension, most_rows=FEWEST_IVF_ROWS - 1)
    lists = ideal_lists(rows)
    finest = max(2, math.ceil(dimension / MOST_SUBQUANTISERS))
    plans = [
        IvfPlan(dimension, lists, coarseness * finest, _training_rows(rows, dimension, lists), graph=True)
        for coarseness in (1, 2, 4)
    ]
    return next((plan for plan in plans if plan.size_bytes(rows) <= memory_bytes), plans[-1])


def _training_rows(rows: int, dimension: int, lists: int) -> int:
    return min(rows, 64 * lists, max(lists, TRAINING_BYTES // (4 * dimension)))
