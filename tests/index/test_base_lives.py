"""Bases as they are built and extended, while searches go on."""

import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from pspsearch.domain import IndexKind
from pspsearch.index.bases.base import Base
from pspsearch.index.bases.choice import choose_plan
from pspsearch.index.bases.making import build_base, read_base
from pspsearch.index.memory import IndexMemory
from tests.clustered import clustered_descriptors, recall, true_rows
from tests.index_bases import APPROXIMATE, DIMENSION, KINDS, MATRIX, MORE, QUERIES, ROWS, build, check_answers, mask_of


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_input_builds_the_same_base(kind: IndexKind, bases: dict[IndexKind, Base], tmp_path: Path) -> None:
    """It is the same byte for byte on disk."""
    again = build(kind)

    again.write(tmp_path / "again")
    bases[kind].write(tmp_path / "first")

    assert (tmp_path / "again").read_bytes() == (tmp_path / "first").read_bytes()


def test_extended_base_covers_the_new_rows_and_leaves_the_old_base_alone(base: Base) -> None:
    """Each new row finds itself, old answers stay, and the reported recall is that of the new base."""
    before = base.search(QUERIES, 10)

    extended = base.extended(MORE, lambda _: None)

    own = MORE[ROWS::50].astype(np.float32)
    assert extended.rows == len(MORE)
    assert np.mean(extended.search(own, 1)[1][:, 0] == np.arange(ROWS, len(MORE), 50)) >= 0.95
    assert recall(extended.search(QUERIES, 10)[1], true_rows(MORE, QUERIES, 10)) >= 0.92
    assert extended.measured_recall >= 0.93
    check_answers(extended, QUERIES, 10, np.arange(len(MORE)) >= ROWS - 3, MORE)
    assert base.rows == ROWS
    assert all((old == new).all() for old, new in zip(before, base.search(QUERIES, 10), strict=True))


def test_extension_can_be_extended_and_restored(base: Base, tmp_path: Path) -> None:
    """This is a collection's life: built, extended, written, read, extended again."""
    extended = base.extended(MORE[: ROWS + 100], lambda _: None)
    extended.write(tmp_path / "base")

    restored = read_base(tmp_path / "base", MORE).extended(MORE, lambda _: None)

    assert restored.rows == len(MORE)
    assert recall(restored.search(QUERIES, 10)[1], true_rows(MORE, QUERIES, 10)) >= 0.92


def test_base_that_lost_its_recall_is_tuned_again() -> None:
    """What was tuned on a few tight clusters does not suffice for wide ones that come later."""
    tight = clustered_descriptors(3_000, DIMENSION, seed=1, clusters=3).astype(np.float16)
    wide = np.vstack([tight, clustered_descriptors(9_000, DIMENSION, seed=2, clusters=9_000).astype(np.float16)])
    base = build(IndexKind.IVF, tight)

    extended = base.extended(wide, lambda _: None)

    assert extended.plan != base.plan
    assert extended.measured_recall >= 0.93


def test_searches_go_on_while_a_base_is_extended(approximate: Base) -> None:
    """One thread searches while another extends, and every answer is that of an undisturbed base."""
    keep = mask_of(0.5)
    quiet = approximate.search(QUERIES, 10, keep)
    extending = threading.Thread(target=lambda: approximate.extended(MORE, lambda _: None))
    extending.start()

    different = searches = 0
    while extending.is_alive() or not searches:
        busy = approximate.search(QUERIES, 10, keep)
        different += sum((before != after).any() for before, after in zip(quiet, busy, strict=True))
        searches += 1
    extending.join()

    assert different == 0


@pytest.mark.parametrize("kind", KINDS)
def test_building_reports_ascending_shares_from_one_thread(kind: IndexKind) -> None:
    """They rise to 1; FAISS uses only the calling thread meanwhile, and as many as before afterwards."""
    heard: list[tuple[float, int]] = []
    usual = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    plan = choose_plan(2_000, DIMENSION, kind, IndexMemory(1 << 30))

    base = build_base(plan, MATRIX[:2_000], 0.9, lambda share: heard.append((share, faiss.omp_get_max_threads())))
    base.extended(MATRIX[:3_000], lambda share: heard.append((1 + share, faiss.omp_get_max_threads())))

    after = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(usual)
    assert after == 2
    assert all(earlier <= later for (earlier, _), (later, _) in pairwise(heard))
    assert heard[-1][0] == 2
    assert kind is IndexKind.EXACT or {threads for _, threads in heard} == {1}


class Stopped(Exception):
    """Raised when the caller who waits for the base has left."""


@pytest.mark.parametrize("kind", APPROXIMATE)
@pytest.mark.parametrize("steps", [1, 5, 12])
def test_building_ends_when_its_listener_raises(kind: IndexKind, steps: int) -> None:
    """This is how a build is stopped: nothing is left running, and FAISS has its threads back."""
    heard: list[float] = []

    def advance(share: float) -> None:
        heard.append(share)
        if len(heard) == steps:
            raise Stopped

    usual = faiss.omp_get_max_threads()
    plan = choose_plan(ROWS, DIMENSION, kind, IndexMemory(1 << 30))
    with pytest.raises(Stopped):
        build_base(plan, MATRIX, 0.9, advance)

    assert len(heard) == steps
    assert faiss.omp_get_max_threads() == usual


@pytest.mark.parametrize("kind", KINDS)
def test_matrix_may_be_a_memory_map(kind: IndexKind, tmp_path: Path) -> None:
    """It is one in the server, and later rows do not disturb it."""
    mapped: Any = np.memmap(tmp_path / "descriptors", np.float16, "w+", shape=(3_000, DIMENSION))
    mapped[:] = MORE[:3_000]
    matrix: NDArray[np.float16] = mapped

    base = build(kind, matrix[:2_000]).extended(matrix, lambda _: None)

    check_answers(base, QUERIES, 10, None, MORE[:3_000])
