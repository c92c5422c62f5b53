"""Which base is planned for which collection."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pspsearch.domain import IndexKind
from pspsearch.index.bases.choice import choose_plan
from pspsearch.index.candidates.plan import (
    ExactPlan,
    GpuFlatPlan,
    GpuIvfPlan,
    HnswPlan,
    IvfPlan,
    Plan,
    decode_plan,
    encode_plan,
    ideal_lists,
)
from pspsearch.index.memory import IndexMemory

GIB = 1 << 30


@pytest.mark.parametrize(
    ("rows", "dimension", "kind", "memory", "structure"),
    [
        (0, 256, IndexKind.AUTO, IndexMemory(GIB), ExactPlan),
        (0, 256, IndexKind.AUTO, IndexMemory(GIB, GIB), ExactPlan),
        (50_000, 256, IndexKind.AUTO, IndexMemory(GIB), ExactPlan),
        (50_001, 256, IndexKind.AUTO, IndexMemory(GIB), IvfPlan),
        (50_001, 128, IndexKind.AUTO, IndexMemory(GIB), ExactPlan),
        (10_000_000, 256, IndexKind.EXACT, IndexMemory(0), ExactPlan),
        (1_000, 256, IndexKind.IVF, IndexMemory(GIB), IvfPlan),
        (623, 256, IndexKind.IVF, IndexMemory(GIB), ExactPlan),
        (1, 256, IndexKind.HNSW, IndexMemory(GIB), HnswPlan),
        (1_000_000, 256, IndexKind.HNSW, IndexMemory(GIB), HnswPlan),
        (10_000_000, 256, IndexKind.HNSW, IndexMemory(GIB), IvfPlan),
        (1_000, 256, IndexKind.HNSW, IndexMemory(GIB, GIB), HnswPlan),
        (10_000_000, 256, IndexKind.HNSW, IndexMemory(GIB, 40 * GIB), IvfPlan),
        (100, 256, IndexKind.AUTO, IndexMemory(GIB, GIB), GpuFlatPlan),
        (1_000_000, 256, IndexKind.AUTO, IndexMemory(GIB, 40 * GIB), GpuFlatPlan),
        (10_000_000, 256, IndexKind.AUTO, IndexMemory(GIB, 40 * GIB), GpuIvfPlan),
        (10_000_000, 256, IndexKind.EXACT, IndexMemory(GIB, 40 * GIB), GpuFlatPlan),
        (10_000_000, 256, IndexKind.EXACT, IndexMemory(GIB, GIB), ExactPlan),
        (100_000_000, 256, IndexKind.AUTO, IndexMemory(GIB, GIB), IvfPlan),
        (1_000_000, 251, IndexKind.IVF, IndexMemory(GIB, 40 * GIB), IvfPlan),
    ],
)
def test_structure_goes_by_size_dimension_memory_and_device(
    rows: int, dimension: int, kind: IndexKind, memory: IndexMemory, structure: type[Plan]
) -> None:
    """It is exact while a scan takes 2 ms, lists beyond that, and what is possible if asked for by name."""
    plan = choose_plan(rows, dimension, kind, memory)

    assert isinstance(plan, structure)


def test_plan_for_a_million_rows_is_the_measured_one() -> None:
    """It has 4 times the root of the rows as lists, two dimensions per sub-quantiser, and a text that says so."""
    plan = choose_plan(1_000_000, 256, IndexKind.AUTO, IndexMemory(GIB))

    assert plan == IvfPlan(dimension=256, lists=4096, subdimension=2, training_rows=262_144, graph=True)
    assert str(plan) == "IVF of 4096 lists, 128 sub-quantisers of 4 bits, refined exactly"


def test_short_memory_makes_coarser_codes() -> None:
    """Codes shrink before anything is refused."""
    plans = [choose_plan(1_000_000, 256, IndexKind.IVF, IndexMemory(size)) for size in (GIB, 60_000_000, 1)]

    assert [plan.subquantisers for plan in plans if isinstance(plan, IvfPlan)] == [128, 64, 32]


@given(
    rows=st.integers(0, 10**8),
    dimension=st.integers(1, 4096),
    kind=st.sampled_from(IndexKind),
    memory=st.builds(IndexMemory, st.integers(0, 1 << 40), st.none() | st.integers(0, 1 << 40)),
)
def test_every_plan_can_be_built(rows: int, dimension: int, kind: IndexKind, memory: IndexMemory) -> None:
    """Lists have rows to train on, sub-quantisers cover the dimension, the sample is bounded, and the plan fits."""
    plan = choose_plan(rows, dimension, kind, memory)

    assert plan.dimension == dimension
    assert plan.fits(rows)
    assert decode_plan(json.loads(json.dumps(encode_plan(plan)))) == plan
    if isinstance(plan, IvfPlan | GpuIvfPlan):
        assert 16 <= plan.lists <= plan.training_rows <= rows
        assert 39 * plan.lists <= rows
        assert 4 * dimension * plan.training_rows <= max(1 << 28, 4 * dimension * plan.lists)
    if isinstance(plan, IvfPlan):
        assert plan.subquantisers <= 256
        assert 0 <= plan.padded_dimension - dimension < plan.subdimension
    if isinstance(plan, GpuIvfPlan):
        assert dimension % plan.subquantisers == 0


@given(st.integers(1_000, 10**8))
def test_lists_follow_the_root_of_the_rows(rows: int) -> None:
    """They do within the rounding to a power of two, unless there are too few rows to train them."""
    lists = ideal_lists(rows)

    assert lists <= 4 * math.sqrt(rows) * math.sqrt(2) * 1.001
    assert lists * math.sqrt(2) * 1.001 >= 4 * math.sqrt(rows) or lists > rows / 39 / 2


@pytest.mark.parametrize(
    ("plan", "fitting", "outgrown"),
    [
        (choose_plan(100, 256, IndexKind.AUTO, IndexMemory(GIB)), 50_000, 50_001),
        (choose_plan(100, 256, IndexKind.IVF, IndexMemory(GIB)), 623, 624),
        (choose_plan(6_000, 256, IndexKind.IVF, IndexMemory(GIB)), 9_983, 9_984),
        (choose_plan(150_000, 256, IndexKind.IVF, IndexMemory(GIB)), 524_287, 524_288),
        (choose_plan(100, 256, IndexKind.HNSW, IndexMemory(784_000)), 1_000, 1_001),
        (choose_plan(100, 256, IndexKind.AUTO, IndexMemory(GIB, 1_024_000)), 1_000, 1_001),
        (choose_plan(10_000_000, 256, IndexKind.IVF, IndexMemory(GIB, 40 * GIB)), 33_554_432, 33_554_433),
    ],
    ids=str,
)
def test_outgrown_plan_says_so(plan: Plan, fitting: int, outgrown: int) -> None:
    """A base is extended until another plan would be better."""
    assert plan.fits(fitting)
    assert not plan.fits(outgrown)


def test_plan_that_was_asked_for_by_name_is_never_outgrown() -> None:
    """A caller who wants exact answers keeps them at any size."""
    assert choose_plan(100, 256, IndexKind.EXACT, IndexMemory(GIB)).fits(10**9)
