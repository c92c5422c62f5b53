"""Indexes on the GPU, compared with exact scores from the CPU."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager

import numpy as np
import torch

from pspsearch.domain import Descriptors, IndexKind
from pspsearch.index.arrays import Mask, Matrix
from pspsearch.index.bases.base import Base
from pspsearch.index.bases.builder import BaseBuilder
from pspsearch.index.candidates.gpu import GpuFlatFinder, GpuIvfFinder, free_bytes
from pspsearch.index.candidates.plan import GpuFlatPlan
from pspsearch.index.memory import IndexMemory
from pspsearch.index.scoring import ExactScan
from pspsearch.index.selection import Selection
from tests.bench.points import clustered
from tests.clustered import recall
from tests.gpu.rows import Row, at_least, holds, median_ms

DIMENSION, HITS = 256, 10
ROWS, QUERIES = 1_000_000, 256
SHARES = (0.5, 0.05, 0.001)
BATCHES = (1, 4, 16, 64)
SCANNED_ROWS = 10_000_000
SAME, TARGET_RECALL, OF_BANDWIDTH = 0.999, 0.95, 0.7


def check() -> Iterator[Row]:
    """The GPU gives the CPU's answers, also under masks; how fast it is; and what happens without memory."""
    matrix = clustered(ROWS, DIMENSION, seed=1).astype(np.float16)
    queries = clustered(QUERIES, DIMENSION, seed=2)
    flat = build(IndexKind.EXACT, matrix)
    yield holds("exact search is on the GPU", passed="GPU" in flat.plan)
    yield from _same(flat, matrix, queries)
    yield from _speeds("exact", flat, queries)
    lists = build(IndexKind.IVF, matrix)
    yield holds("lists are on the GPU", passed="GPU" in lists.plan)
    yield at_least("recall of lists", _overlap(lists, matrix, queries, None), TARGET_RECALL - 0.02)
    yield _same_lists(lists, queries)
    yield from _speeds("lists", lists, queries)
    yield from _without_room(matrix, queries)
    del flat, lists
    yield _bandwidth(matrix)


def build(kind: IndexKind, matrix: Matrix) -> Base:
    """Builds the base as the server does if it finds a GPU."""
    builder = BaseBuilder(DIMENSION, kind, TARGET_RECALL, IndexMemory(cpu_bytes=32 << 30, gpu_bytes=free_bytes()))
    return builder.build(matrix, _silent)


def _same(base: Base, matrix: Matrix, queries: Descriptors) -> Iterator[Row]:
    yield at_least("overlap with the CPU, exact", _overlap(base, matrix, queries, None), SAME)
    for share in SHARES:
        mask = np.random.default_rng(0).random(ROWS) < share
        overlap = _overlap(base, matrix, queries, mask)
        yield at_least(f"overlap with the CPU where {share:.1%} of rows count", overlap, SAME)
        yield holds("... and no other row is found", passed=bool(mask[base.search(queries, HITS, mask)[1]].all()))


def _overlap(base: Base, matrix: Matrix, queries: Descriptors, mask: Mask | None) -> float:
    """The share of the ten rows with the best exact scores that the base finds."""
    _, true = ExactScan(matrix).search(queries, HITS, Selection.of(mask, len(matrix)))
    _, found = base.search(queries, HITS, mask)
    return recall(found, list(true))


def _same_lists(base: Base, queries: Descriptors) -> Row:
    """Compares with FAISS on the CPU, searching the same codes and lists."""
    finder = base._finder  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType] - of an ApproximateBase
    assert isinstance(finder, GpuIvfFinder)
    plain = finder.stored()
    plain.nprobe = breadth = finder.breadths[len(finder.breadths) // 2]  # pyright: ignore[reportAttributeAccessIssue] - an IndexIVFPQ
    _, true = plain.search(queries, HITS)
    found = finder.find(queries, HITS, breadth, Selection.of(None, finder.rows))
    return at_least("overlap of lists with FAISS on the CPU over the same codes", recall(found, list(true)), 0.99)


def _speeds(name: str, base: Base, queries: Descriptors) -> Iterator[Row]:
    for size in BATCHES:
        taken = median_ms(lambda size=size: base.search(queries[:size], HITS), 50)
        yield Row(f"{name}, {ROWS:,} rows, batch of {size}", f"{taken:.2f} ms, {1000 * size / taken:,.0f}/s")


def _without_room(matrix: Matrix, queries: Descriptors) -> Iterator[Row]:
    with _filled_up():
        base = build(IndexKind.EXACT, matrix)
        yield holds("without memory on the GPU the index is built for the CPU", passed="GPU" not in base.plan)
        yield at_least("... and is right", _overlap(base, matrix, queries, None), SAME)
    again = build(IndexKind.EXACT, matrix)
    yield holds("with memory it is on the GPU again", passed="GPU" in again.plan)
    yield at_least("... and is right", _overlap(again, matrix, queries, None), SAME)


@contextmanager
def _filled_up() -> Generator[None]:
    """Occupies all memory except what a tenth of the matrix needs."""
    taken = torch.empty(free_bytes() - ROWS * DIMENSION // 5, dtype=torch.uint8, device="cuda")
    try:
        yield
    finally:
        del taken
        torch.cuda.empty_cache()


def _bandwidth(matrix: Matrix) -> Row:
    """Compares one query over ten million rows with what the card copies in that time."""
    finder = GpuFlatFinder.built(
        GpuFlatPlan(DIMENSION, SCANNED_ROWS), np.tile(matrix, (SCANNED_ROWS // ROWS, 1)), _silent
    )
    query, everything = matrix[:1].astype(np.float32), Selection.of(None, SCANNED_ROWS)
    taken = median_ms(lambda: finder.find(query, HITS, 1, everything), 20)
    read = finder.size_bytes / taken * 1000
    card = _copied_per_s()
    words = f"exact search of {SCANNED_ROWS:,} rows ({taken:.2f} ms), of the card's {card / 1e9:,.0f} GB/s"
    return at_least(words, read / card, OF_BANDWIDTH)


def _copied_per_s() -> float:
    """Bytes read and written per second."""
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)

    def copy() -> None:
        target.copy_(source)
        torch.cuda.synchronize()

    return 2 * source.numel() / median_ms(copy, 20) * 1000


def _silent(_: float) -> None:
    """Takes progress that nobody needs."""
