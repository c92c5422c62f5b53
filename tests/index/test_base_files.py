"""Bases on disk, whole and damaged."""

from collections.abc import Callable
from pathlib import Path

import faiss
import pytest

from pspsearch.domain import IndexKind
from pspsearch.index.arrays import Matrix
from pspsearch.index.bases.approximate_base import ApproximateBase
from pspsearch.index.bases.base import Base
from pspsearch.index.bases.making import IndexDamaged, read_base
from pspsearch.index.candidates.plan import GpuFlatPlan
from tests.index_bases import DIMENSION, MATRIX, MORE, QUERIES, ROWS, build


def test_base_on_disk_answers_as_before(base: Base, tmp_path: Path) -> None:
    """It gives the same rows, scores and words, although the matrix has grown since."""
    base.write(tmp_path / "base")

    restored = read_base(tmp_path / "base", MORE)

    assert (restored.rows, restored.plan, restored.measured_recall) == (ROWS, base.plan, base.measured_recall)
    assert restored.size_bytes == base.size_bytes
    answers = zip(base.search(QUERIES, 10), restored.search(QUERIES, 10), strict=True)
    assert all((before == after).all() for before, after in answers)


def test_descriptors_are_not_on_disk_twice(approximate: Base, tmp_path: Path) -> None:
    """The file holds codes or links; only the matrix holds the descriptors."""
    approximate.write(tmp_path / "base")

    size_bytes = (tmp_path / "base").stat().st_size

    assert size_bytes == pytest.approx(approximate.size_bytes, rel=0.25)
    assert MATRIX[ROWS // 2].tobytes() not in (tmp_path / "base").read_bytes()


def cut(path: Path) -> None:
    """Cuts off the end, as a full disk or a crash does."""
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    """Empties the file."""
    path.write_bytes(b"")


def lose(path: Path) -> None:
    """Removes the file."""
    path.unlink()


def flip_front(path: Path) -> None:
    """Flips one bit in the kind of the index, or in the plan."""
    content = bytearray(path.read_bytes())
    content[10] ^= 1
    path.write_bytes(content)


def flip_end(path: Path) -> None:
    """Flips one bit of the trailer."""
    content = bytearray(path.read_bytes())
    content[-12] ^= 1
    path.write_bytes(content)


def lengthen(path: Path) -> None:
    """Appends bytes that do not belong to it."""
    path.write_bytes(path.read_bytes() + bytes(40))


def replace(path: Path) -> None:
    """Replaces it with something else altogether."""
    faiss.write_index(faiss.IndexFlatIP(DIMENSION), str(path))


@pytest.mark.parametrize("damage", [cut, empty, lose, flip_front, flip_end, lengthen, replace])
def test_damaged_file_is_recognised(base: Base, damage: Callable[[Path], None], tmp_path: Path) -> None:
    """There is never a wrong answer or a crash: the caller is told to build again."""
    path = tmp_path / "base"
    base.write(path)
    damage(path)

    with pytest.raises(IndexDamaged, match=str(path)):
        read_base(path, MATRIX)


@pytest.mark.parametrize("matrix", [MATRIX[:-1], MATRIX[:, :16].copy()], ids=["fewer rows", "another dimension"])
def test_file_of_another_matrix_is_refused(base: Base, matrix: Matrix, tmp_path: Path) -> None:
    """A base without its rows would name rows that do not exist."""
    base.write(tmp_path / "base")

    with pytest.raises(IndexDamaged, match="which the matrix has not"):
        read_base(tmp_path / "base", matrix)


def test_base_of_a_gpu_is_rebuilt_where_there_is_none(tmp_path: Path) -> None:
    """A data directory may move to another machine."""
    if faiss.get_num_gpus():
        pytest.skip("what is tested here is a machine without a GPU")
    base = build(IndexKind.IVF, MATRIX[:1_000])
    assert isinstance(base, ApproximateBase)
    base._finder.plan = GpuFlatPlan(DIMENSION, most_rows=1_000)  # pyright: ignore[reportAttributeAccessIssue]
    base.write(tmp_path / "base")

    with pytest.raises(IndexDamaged, match="there is none"):
        read_base(tmp_path / "base", MATRIX)
