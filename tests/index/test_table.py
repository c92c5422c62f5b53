"""The rows of an index: appending changes nothing for those who read before."""

import resource
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pspsearch.domain import IndexKind
from pspsearch.index.table.growing_array import GrowingArray
from pspsearch.index.table.id_arena import IdArena
from pspsearch.index.table.matrix_file import LEAST_ROWS, MatrixFile
from pspsearch.index.table.table import Table
from tests.fakes.index import DIMENSION, Gallery, match_all
from tests.indexes import open_index

ROWS = np.random.default_rng(1).standard_normal((5000, DIMENSION)).astype(np.float16)


@given(st.lists(st.lists(st.integers(0, 255), max_size=40), max_size=20))
def test_growing_array_is_what_was_appended(pieces: list[list[int]]) -> None:
    """What was read on the way has not changed."""
    array = GrowingArray(np.zeros(0, np.uint8))
    whole: list[int] = []
    read: list[tuple[NDArray[np.uint8], list[int]]] = []
    for piece in pieces:
        array.append(np.array(piece, np.uint8))
        whole += piece
        read.append((array.first(len(whole)), list(whole)))

    assert len(array) == len(whole)
    assert all(seen.tolist() == then for seen, then in read)


@given(st.lists(st.tuples(st.text(max_size=8), st.booleans())), st.integers(0, 20))
def test_ids_come_back(ids: list[tuple[str, bool]], appended_later: int) -> None:
    """They do in any order, also from an arena that keeps some of the first rows, and from one made from its parts."""
    arena = IdArena.empty()
    arena.append(id_ for id_, _ in ids)
    arena.append("later" for _ in range(appended_later))

    kept = arena.keep_rows(np.array([keep for _, keep in ids], np.bool_))
    again = IdArena(*arena.first(len(ids)))

    backwards = np.arange(len(ids))[::-1]
    assert arena.take(backwards) == [id_ for id_, _ in ids][::-1]
    assert again.take(backwards) == [id_ for id_, _ in ids][::-1]
    wanted = [id_ for id_, keep in ids if keep]
    assert kept.take(np.arange(len(wanted))) == wanted


def test_matrix_grows_under_those_who_read_it(tmp_path: Path) -> None:
    """Earlier arrays stay as they are and cannot be written to."""
    matrix = MatrixFile(tmp_path / "matrix", DIMENSION, 0)
    matrix.write(0, ROWS[:1000])
    early = matrix.first(1000)
    matrix.write(1000, ROWS[1000:])

    assert np.array_equal(early, ROWS[:1000])
    assert np.array_equal(matrix.first(5000), ROWS)
    assert not early.flags.writeable
    assert not matrix.first(5000).flags.writeable
    del matrix
    assert np.array_equal(early, ROWS[:1000])


def test_matrix_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    """It has the same digest, however it was asked for on the way."""
    matrix = MatrixFile(tmp_path / "matrix", DIMENSION, 0)
    matrix.write(0, ROWS[:2000])
    first = matrix.digest(700)
    then = matrix.digest(2000)

    again = MatrixFile(tmp_path / "matrix", DIMENSION, 2000)

    assert np.array_equal(again.first(2000), ROWS[:2000])
    assert again.digest(2000) == then != first


@contextmanager
def full_disk(free_bytes: int) -> Generator[None]:
    """Makes files fail to grow beyond `free_bytes` inside the block."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_full_disk_leaves_the_table_as_it_was(tmp_path: Path) -> None:
    """It is an error, and the same rows can be appended when there is room."""
    gallery = Gallery()
    table = Table.empty(tmp_path / "matrix", DIMENSION)
    for number in range(LEAST_ROWS + 10):
        gallery.put(f"item-{number}")
    rows = list(gallery.source.after(0))
    table.append(rows[:LEAST_ROWS])

    with full_disk(LEAST_ROWS * 2 * DIMENSION), pytest.raises(OSError, match="too large"):
        table.append(rows[LEAST_ROWS:])

    assert table.rows == LEAST_ROWS
    table.append(rows[LEAST_ROWS:])
    assert table.ids(np.array([0, LEAST_ROWS, LEAST_ROWS + 9])) == ["item-0", "item-1024", "item-1033"]
    assert np.array_equal(table.matrix.first(table.rows), np.stack([row.descriptor for row in rows]))


async def test_commit_that_finds_the_disk_full_is_seen_when_there_is_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is seen in order, with the next commit or earlier; `apply` itself never fails."""
    gallery = Gallery()
    index = await open_index(tmp_path, gallery.source, IndexKind.EXACT)
    for number in range(LEAST_ROWS):
        index.apply(gallery.put(f"item-{number}"))

    with full_disk(LEAST_ROWS * 2 * DIMENSION):
        index.apply(gallery.put("late"))
        late = gallery.rows["late"]
        index.apply(gallery.drop("item-0"))
        before = (await index.search(late.descriptor.astype(np.float32)[None], 1))[0].ids
    index.apply(gallery.put("later"))

    assert before != ["late"]
    assert any("not yet in the index" in record.message for record in caplog.records)
    assert (await index.search(late.descriptor.astype(np.float32)[None], 1))[0].ids == ["late"]
    assert (await match_all(index)).sequences.tolist() == [row.sequence for row in gallery.source.after(0)]
    await index.close()


async def test_what_waits_for_room_can_go_again(tmp_path: Path) -> None:
    """It is caught up with in two parts: the second removes a row of the first, which is not there yet."""
    gallery = Gallery()
    for number in range(LEAST_ROWS):
        gallery.put(f"item-{number}")
    index = await open_index(tmp_path, gallery.source, IndexKind.EXACT)

    with full_disk(LEAST_ROWS * 2 * DIMENSION):
        index.catch_up([gallery.put("came"), gallery.put("stays")])
        index.catch_up([gallery.drop("came")])
    index.apply(gallery.put("later"))

    assert (await match_all(index)).sequences.tolist() == [row.sequence for row in gallery.source.after(0)]
    await index.close()


def test_found_by_sequence(tmp_path: Path) -> None:
    """It looks only among the first rows, and gives -1 for what is not there."""
    gallery = Gallery()
    table = Table.empty(tmp_path / "matrix", DIMENSION)
    for number in range(10):
        gallery.put(f"item-{number}")
    table.append([row for row in gallery.source.after(0) if row.sequence % 2])  # 1, 3, 5, 7, 9

    found = table.find(np.array([9, 0, 1, 4, 7, 99]), 4)

    assert found.tolist() == [-1, -1, 0, -1, 3, -1]
