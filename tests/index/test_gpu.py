"""What happens to the rows that a GPU returns. That it returns the right ones stays unproven without a GPU."""

import os
import threading
from typing import Any, cast

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pspsearch.config import IndexSettings
from pspsearch.domain import IndexKind
from pspsearch.errors import BadSettings
from pspsearch.index import engine
from pspsearch.index.bases.approximate_base import ApproximateBase
from pspsearch.index.bases.builder import BaseBuilder
from pspsearch.index.candidates import gpu
from pspsearch.index.candidates.finder import Effort, FinderFailed
from pspsearch.index.candidates.gpu import Gpu, GpuFlatFinder, GpuIvfFinder, fetch_kept
from pspsearch.index.candidates.plan import GpuFlatPlan, GpuIvfPlan
from pspsearch.index.candidates.training import cluster
from pspsearch.index.memory import Device, IndexMemory
from pspsearch.index.scoring import flat_over
from pspsearch.index.selection import Selection
from tests.clustered import recall, true_rows
from tests.index_bases import DIMENSION, MATRIX, QUERIES, ROWS, check_answers, mask_of

BUILDER = BaseBuilder(DIMENSION, IndexKind.AUTO, 0.95, IndexMemory(cpu_bytes=1 << 30, gpu_bytes=1 << 30))


@settings(deadline=None, max_examples=40)  # a busy machine is no failure
@given(share=st.floats(0.01, 1), seed=st.integers(0, 1000), count=st.integers(1, 60), most=st.integers(1, 3_000))
def test_over_fetching_finds_what_a_mask_keeps(share: float, seed: int, count: int, most: int) -> None:
    """A GPU knows no masks, so this takes the first kept rows of a search of everything, as far as it reaches."""
    matrix = MATRIX[:2_000]
    keep = np.random.default_rng(seed).random(len(matrix)) < share
    keep[0] = True
    flat = flat_over(matrix)

    rows = fetch_kept(lambda k: flat.search(QUERIES, k)[1], count, Selection.of(keep, len(matrix)), most)

    for found, reached in zip(rows, true_rows(matrix, QUERIES, min(most, len(matrix))), strict=True):
        kept = reached[keep[reached]][:count].tolist()
        assert found[found >= 0].tolist() == kept
        assert len(kept) == count or (len(reached) == min(most, len(matrix)))


def stand_in(structure: type[GpuFlatFinder | GpuIvfFinder]) -> GpuFlatFinder | GpuIvfFinder:
    """Returns a GPU finder whose index is on the CPU, and is not given masks either."""
    gpu = Gpu(resources=cast(Any, None), lock=threading.Lock())
    if structure is GpuFlatFinder:
        return GpuFlatFinder(GpuFlatPlan(DIMENSION, most_rows=ROWS), flat_over(MATRIX), gpu)
    sample = MATRIX[:10_000].astype(np.float32)
    index = faiss.IndexIVFPQ(cluster(sample, 64, lambda _: None), DIMENSION, 64, 8, 8, faiss.METRIC_INNER_PRODUCT)
    index.train(sample)
    index.add(MATRIX.astype(np.float32))
    return GpuIvfFinder(GpuIvfPlan(DIMENSION, lists=64, subquantisers=8, training_rows=10_000), index, gpu)


@pytest.mark.parametrize("structure", [GpuFlatFinder, GpuIvfFinder])
def test_base_over_an_index_without_masks_is_right_under_them(
    structure: type[GpuFlatFinder | GpuIvfFinder],
) -> None:
    """It is tuned, full, has kept rows only and the recall of other bases: rows from a GPU need no more than that."""
    base = ApproximateBase.tuned(stand_in(structure), MATRIX, 0.95, lambda _: None)

    assert base.measured_recall >= 0.93  # 0.95 less twice the standard error of its sample
    for share in (1.0, 0.5, 0.05, 0.001, 0.0):
        keep = mask_of(share)
        check_answers(base, QUERIES, 10, keep)
        if share:
            assert recall(base.search(QUERIES, 10, keep)[1], true_rows(MATRIX, QUERIES, 10, keep)) >= 0.92
    check_answers(base, QUERIES[:2], 3_000, mask_of(0.5))  # more than a GPU selects


class FullIndex:
    """Fails like an index of FAISS on a GPU whose memory is full."""

    ntotal = ROWS

    def search(self, _queries: object, _count: int) -> object:
        """Raises the error in FAISS's words."""
        raise RuntimeError("Error in allocMemory: out of memory\nmore of it")


def full_base() -> ApproximateBase:
    """A base over all rows whose GPU finds none."""
    full = Gpu(resources=cast(Any, None), lock=threading.Lock())
    finder = GpuFlatFinder(GpuFlatPlan(DIMENSION, most_rows=2 * ROWS), cast(faiss.Index, FullIndex()), full)
    return ApproximateBase(finder, MATRIX, Effort(breadth=1, k_factor=2), target_recall=0.95)


@pytest.fixture
def full_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU on which nothing can be built."""

    def refuse() -> Gpu:
        raise FinderFailed("the GPU cannot do it: out of memory")

    monkeypatch.setattr(gpu, "open_gpu", refuse)


def test_memory_is_planned_with_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is half of what each has, or what the operator says; only the machine's if the GPU must not be used."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    monkeypatch.setattr(engine, "find_device", lambda: Device.GPU)
    monkeypatch.setattr(engine, "free_bytes", lambda: 6_000)

    assert engine.choose_memory(IndexSettings()) == IndexMemory(machine // 2, gpu_bytes=3_000)
    assert engine.choose_memory(IndexSettings(index_memory_bytes=700)) == IndexMemory(700, gpu_bytes=700)
    assert engine.choose_memory(IndexSettings(device="cpu")) == IndexMemory(machine // 2)


def test_gpu_that_does_not_answer_is_a_sentence_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence says what to do about it."""

    def refuse() -> int:
        raise FinderFailed("the GPU does not say how much of its memory is free (CUDA's error 35)")

    monkeypatch.setattr(engine, "find_device", lambda: Device.GPU)
    monkeypatch.setattr(engine, "free_bytes", refuse)

    with pytest.raises(BadSettings, match=r"\(CUDA's error 35\); device = cpu does without it$"):
        engine.choose_memory(IndexSettings())


def test_search_that_the_gpu_cannot_make_is_made_by_the_cpu() -> None:
    """The answer is slower and exact, and the GPU is free for the next thread afterwards."""
    base = full_base()

    for _ in range(2):
        check_answers(base, QUERIES, 10, mask_of(0.5))
        assert recall(base.search(QUERIES, 10)[1], true_rows(MATRIX, QUERIES, 10)) == 1.0


@pytest.mark.usefixtures("full_gpu")
def test_base_that_the_gpu_cannot_take_is_built_for_the_cpu() -> None:
    """It has the plan that suits a CPU, and the recall that was asked for."""
    base = BUILDER.build(MATRIX, lambda _: None)

    assert "GPU" not in base.plan
    assert base.measured_recall >= 0.93
    check_answers(base, QUERIES, 10, mask_of(0.5))


@pytest.mark.usefixtures("full_gpu")
def test_base_that_cannot_be_extended_on_the_gpu_is_built_anew() -> None:
    """A base and the next are there at the same time, which is when memory runs out."""
    base = BUILDER.extend(full_base(), MATRIX, lambda _: None)

    assert "GPU" not in base.plan
    assert base.rows == ROWS
