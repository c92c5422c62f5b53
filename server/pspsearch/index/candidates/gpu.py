"""Finds candidates on a GPU, scored in fp16 or by product codes.

This is unproven, because no GPU has run it yet. The tests without a GPU cover only what happens to the rows that a GPU
returns. CAGRA is not supported, because it needs a FAISS built with cuVS.
"""

import ctypes
import math
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Self

import faiss
import numpy as np

from pspsearch.domain import Descriptors
from pspsearch.index.arrays import Matrix, RowNumbers
from pspsearch.index.candidates.finder import Advance, Effort, FinderFailed, ladder, part
from pspsearch.index.candidates.plan import GpuFlatPlan, GpuIvfPlan
from pspsearch.index.candidates.training import cluster, draw_training_rows
from pspsearch.index.memory import Device
from pspsearch.index.selection import Selection

SLICE_ROWS = 1 << 14
"""How many rows are copied to the GPU at a time; searches go in between."""

TEMPORARY_BYTES = 256 << 20
"""How much memory FAISS may take on the GPU besides the indexes."""

MOST_FETCHED = 2048
"""The most nearest rows that FAISS selects on a GPU."""

SPEED = 40
"""How many times faster a GPU reads its memory than one CPU core does."""


@dataclass(frozen=True)
class Gpu:
    """The first GPU. Only one thread at a time may use its resources."""

    resources: "faiss.StandardGpuResources"  # quoted: a build for the CPU has none
    lock: Lock

    @contextmanager
    def turn(self) -> Generator[None]:
        """Must surround every call that touches the GPU. FAISS raises RuntimeError if its memory is full."""
        with self.lock:
            try:
                yield
            except RuntimeError as error:
                raise FinderFailed(f"the GPU cannot do it: {str(error).splitlines()[0]}") from error


def find_device() -> Device:
    """Returns the GPU if FAISS can use one, else the CPU."""
    return Device.GPU if faiss.get_num_gpus() > 0 else Device.CPU


def free_bytes() -> int:
    """Returns the free memory of the first GPU, as told by the CUDA runtime that comes with FAISS.

    Raises FinderFailed if that is not there, or does not say.
    """
    try:
        runtime = ctypes.CDLL("libcudart.so.12")
    except OSError as error:
        raise FinderFailed(f"the CUDA runtime that FAISS needs is not there: {error}") from error
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    failure = runtime.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total))
    if failure:
        raise FinderFailed(f"the GPU does not say how much of its memory is free (CUDA's error {failure})")
    return free.value


@cache
def open_gpu() -> Gpu:
    """Returns the one GPU, opened for the life of the process."""
    resources = faiss.StandardGpuResources()
    resources.setTempMemory(TEMPORARY_BYTES)
    return Gpu(resources, Lock())


def fetch_kept(
    fetch: Callable[[int], RowNumbers], count: int, selection: Selection, most_fetched: int = MOST_FETCHED
) -> RowNumbers:
    """Returns up to `count` kept rows per query, from a search without masks that is asked for more and more rows.

    `fetch` takes how many rows to find, kept or not. Answers are padded with -1 if even the most did not suffice.
    """
    most_fetched = min(most_fetched, selection.rows)
    fetched = min(most_fetched, math.ceil(count / selection.share))
    while True:
        rows = _without_masked(fetch(fetched), selection)
        if fetched == most_fetched or (rows[:, count - 1 : count] >= 0).all():
            return rows[:, :count]
        fetched = min(2 * fetched, most_fetched)


def _without_masked(rows: RowNumbers, selection: Selection) -> RowNumbers:
    """Moves the kept rows to the front, in their order, and pads with -1."""
    if selection.keep is not None:
        rows = np.where(selection.keep[rows], rows, -1)
    order = np.argsort(rows < 0, axis=1, kind="stable")
    return np.take_along_axis(rows, order, axis=1)


class GpuFlatFinder:
    """A Finder over GpuIndexFlatIP in fp16.

    Its products round the queries, too, so at least twice as many rows are scored again.
    """

    k_factors = (2, 4)
    breadths = [1]

    def __init__(self, plan: GpuFlatPlan, index: faiss.Index, gpu: Gpu) -> None:
        self.plan = plan
        self._index = index
        self._gpu = gpu

    @classmethod
    def built(cls, plan: GpuFlatPlan, matrix: Matrix, advance: Advance) -> Self:
        """Builds the finder over the matrix."""
        gpu = open_gpu()
        config = faiss.GpuIndexFlatConfig()
        config.useFloat16 = True
        with gpu.turn():
            index = faiss.GpuIndexFlatIP(gpu.resources, plan.dimension, config)
        _add(index, matrix, gpu, advance)
        return cls(plan, index, gpu)

    @property
    def rows(self) -> int:
        """See Finder."""
        return self._index.ntotal

    @property
    def size_bytes(self) -> int:
        """See Finder; on the GPU."""
        return self.rows * 2 * self.plan.dimension

    def visited_bytes(self, breadth: int) -> float:
        """See Finder; what a CPU would read in that time."""
        return self.size_bytes / SPEED

    def words(self, effort: Effort) -> str:
        """See Finder."""
        return f"{effort.k_factor} candidates per row"

    def find(self, queries: Descriptors, count: int, breadth: int, selection: Selection) -> RowNumbers:
        """See Finder."""
        with self._gpu.turn():
            return fetch_kept(lambda fetched: self._index.search(queries, fetched)[1], count, selection)

    def extended(self, matrix: Matrix, advance: Advance) -> Self:
        """See Finder. Copies everything to the GPU anew, which takes less time than one search on a CPU."""
        return self.built(self.plan, matrix, advance)

    def stored(self) -> None:
        """See Finder."""


class GpuIvfFinder:
    """A Finder over GpuIndexIVFPQ, trained on the CPU so that the GPU goes on searching."""

    k_factors = (2, 4, 8, 16, 32)

    def __init__(self, plan: GpuIvfPlan, index: faiss.Index, gpu: Gpu) -> None:
        self.plan = plan
        self._index = index
        self._gpu = gpu

    @classmethod
    def built(cls, plan: GpuIvfPlan, matrix: Matrix, advance: Advance) -> Self:
        """Builds the finder over the matrix, trained on a sample of it."""
        sample = draw_training_rows(matrix, plan.training_rows)
        quantizer = cluster(sample, plan.lists, part(advance, 0.0, 0.5))
        trained = faiss.IndexIVFPQ(
            quantizer, plan.dimension, plan.lists, plan.subquantisers, 8, faiss.METRIC_INNER_PRODUCT
        )
        trained.train(sample)
        gpu = open_gpu()
        index = _copied(trained, gpu)
        _add(index, matrix, gpu, part(advance, 0.6, 1.0))
        return cls(plan, index, gpu)

    @classmethod
    def read(cls, plan: GpuIvfPlan, index: faiss.IndexIVFPQ) -> Self:
        """Makes the finder from lists that were on disk."""
        gpu = open_gpu()
        return cls(plan, _copied(index, gpu), gpu)

    @property
    def rows(self) -> int:
        """See Finder."""
        return self._index.ntotal

    @property
    def size_bytes(self) -> int:
        """See Finder; on the GPU."""
        return self.rows * (self.plan.subquantisers + 8) + 4 * self.plan.lists * self.plan.dimension

    @property
    def breadths(self) -> list[int]:
        """See Finder."""
        return ladder(1, self.plan.lists)

    def visited_bytes(self, breadth: int) -> float:
        """See Finder; what a CPU would read in that time."""
        return self.rows * breadth / self.plan.lists * self.plan.subquantisers / SPEED

    def words(self, effort: Effort) -> str:
        """See Finder."""
        return f"{effort.breadth} lists probed, {effort.k_factor} candidates per row"

    def find(self, queries: Descriptors, count: int, breadth: int, selection: Selection) -> RowNumbers:
        """See Finder."""
        parameters = faiss.SearchParametersIVF(nprobe=breadth)
        with self._gpu.turn():
            return fetch_kept(
                lambda fetched: self._index.search(queries, fetched, params=parameters)[1], count, selection
            )

    def extended(self, matrix: Matrix, advance: Advance) -> Self:
        """See Finder."""
        index = _copied(self.stored(), self._gpu)
        _add(index, matrix, self._gpu, advance)
        return type(self)(self.plan, index, self._gpu)

    def stored(self) -> faiss.Index:
        """See Finder."""
        with self._gpu.turn():
            return faiss.index_gpu_to_cpu(self._index)


def _copied(index: faiss.Index, gpu: Gpu) -> faiss.Index:
    """Copies an index from the CPU to the GPU."""
    options = faiss.GpuClonerOptions()
    options.useFloat16 = True
    with gpu.turn():
        return faiss.index_cpu_to_gpu(gpu.resources, 0, index, options)


def _add(index: faiss.Index, matrix: Matrix, gpu: Gpu, advance: Advance) -> None:
    """Adds the rows of the matrix that the index lacks, under their own numbers."""
    for start in range(index.ntotal, len(matrix), SLICE_ROWS):
        with gpu.turn():
            index.add(matrix[start : start + SLICE_ROWS].astype(np.float32))
        advance(index.ntotal / len(matrix))
