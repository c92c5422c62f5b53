"""What is left on disk: sound, damaged, of another index, or written while rows come in."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pspsearch.domain import IndexKind, Row, Sequences
from pspsearch.errors import IndexFailed
from pspsearch.filters import Filter
from pspsearch.ports import Index
from tests.fakes.index import GENERATION, Gallery, join, match_all
from tests.indexes import DAMAGES, PARTS, open_index, snapshot_files
from tests.old_snapshot import make_old


class Source:
    """A gallery's rows; records from which sequence on they were asked for."""

    def __init__(self, gallery: Gallery) -> None:
        self.asked: list[int] = []
        self._rows = gallery.source

    def last_change(self) -> int:
        """See the port."""
        return self._rows.last_change()

    def sequences(self) -> Sequences:
        """See the port."""
        return self._rows.sequences()

    def after(self, sequence: int) -> Iterator[Row]:
        """See the port."""
        self.asked.append(sequence)
        return self._rows.after(sequence)


@pytest.fixture
def gallery() -> Gallery:
    """A thousand items."""
    gallery = Gallery()
    for number in range(1000):
        gallery.put(f"item-{number}", number=number)
    return gallery


@pytest.fixture
async def folder(tmp_path: Path, gallery: Gallery) -> Path:
    """The folder of an index that was closed: most rows in an IVF base, others newer or dead."""
    index = await open_index(tmp_path, gallery.source, IndexKind.IVF)
    index._segments.merge(lambda _: None)
    index.apply(join(gallery.put(f"new-{number}", number=number) for number in range(100)))
    index.apply(join(gallery.drop(f"item-{number}") for number in range(100)))
    await index.close()
    return tmp_path


async def assert_whole(index: Index, gallery: Gallery) -> None:
    """Asserts that every item is found under its id, with its attributes and its descriptor."""
    rows = sorted(gallery.rows.values(), key=lambda row: row.key)
    matched = await match_all(index)
    assert matched.sequences.tolist() == [row.sequence for row in rows]
    descriptors = await index.descriptors(matched.sequences.tolist())
    assert np.array_equal(descriptors, np.stack([row.descriptor for row in rows]).astype(np.float32))
    (found,) = await index.search(gallery.queries(1), 10_000)
    assert sorted(found.ids) == sorted(gallery.rows)


async def test_nothing_is_read_again_that_is_in_a_snapshot(folder: Path, gallery: Gallery) -> None:
    """Only what changed since comes from the catalog."""
    before = gallery.by_sequence()
    for number in range(50):
        gallery.put(f"later-{number}")
        gallery.drop(f"item-{number + 500}")
    source = Source(gallery)

    index = await open_index(folder, source, IndexKind.IVF)

    assert source.asked == [max(before)]
    assert index.state.plan.startswith("IVF")
    assert (index.state.fresh, index.state.tombstones) == (150, 150)
    await assert_whole(index, gallery)
    await index.close()


async def test_snapshot_of_a_catalog_that_went_on_is_of_no_use(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """If an older copy of the catalog replaced this one, its next sequences are other rows."""
    older = Gallery(1)
    for number in range(900):
        older.put(f"other-{number}")

    index = await open_index(folder, older.source, IndexKind.IVF)

    assert any("it knows changes that the catalog does not" in message for message in caplog.messages)
    for number in range(200):
        index.apply(older.put(f"new-{number}"))
    await assert_whole(index, older)
    await index.close()


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("where", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("part", PARTS)
async def test_damage_is_found_and_made_good(
    folder: Path,
    gallery: Gallery,
    part: str,
    damage: Callable[[Path, int], None],
    where: float,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One line names the damaged file; a base is built again, anything else is read from the catalog."""
    path, size_bytes = snapshot_files(folder)[part]
    damage(path, int(where * size_bytes))
    source = Source(gallery)

    index = await open_index(folder, source, IndexKind.IVF)

    assert [str(path) in record.message for record in caplog.records] == [True]
    assert source.asked == [max(gallery.by_sequence()) if part == "base" else 0]
    assert index.state.plan == "exact"
    await assert_whole(index, gallery)
    await index.close()
    caplog.clear()
    await (await open_index(folder, gallery.source, IndexKind.IVF)).close()
    assert caplog.records == []


async def test_rows_beyond_those_of_the_snapshot_do_not_matter(folder: Path, gallery: Gallery) -> None:
    """A killed process leaves some in the matrix."""
    path, size_bytes = snapshot_files(folder)["matrix"]
    with path.open("r+b") as file:
        file.seek(size_bytes)
        file.write(b"\xff" * 1000)
    gallery.put("later")

    index = await open_index(folder, gallery.source, IndexKind.IVF)

    assert index.state.plan.startswith("IVF")
    await assert_whole(index, gallery)
    await index.close()


async def test_snapshot_that_lacks_a_row_is_not_used(tmp_path: Path, gallery: Gallery) -> None:
    """It does not belong to this catalog, whatever it says."""
    index = await open_index(tmp_path, Gallery().source, IndexKind.IVF)
    index.apply(gallery.put("later"))
    await index.close()
    source = Source(gallery)

    index = await open_index(tmp_path, source, IndexKind.IVF)

    assert source.asked == [0]
    await assert_whole(index, gallery)
    await index.close()


@pytest.mark.parametrize("change", [{"key": 4}, {"fingerprint": "other"}])
async def test_snapshot_of_another_generation_is_not_used(
    folder: Path, gallery: Gallery, change: dict[str, Any]
) -> None:
    """Its descriptors are of another space."""
    source = Source(gallery)

    index = await open_index(folder, source, IndexKind.IVF, generation=replace(GENERATION, **change))

    assert source.asked == [0]
    await assert_whole(index, gallery)
    await index.close()


async def test_snapshot_with_rounded_numbers_is_not_read(tmp_path: Path) -> None:
    """In the format in which whole numbers were floats, two users would become one."""
    gallery = Gallery()
    for user in (2**53, 2**53 + 1):
        gallery.put(f"of-{user}", user=user)
    await (await open_index(tmp_path, gallery.source, IndexKind.EXACT)).close()
    make_old(tmp_path, user=[float(2**53)] * 2)
    source = Source(gallery)

    index = await open_index(tmp_path, source, IndexKind.EXACT)

    matched = await match_all(index, Filter.parse(f"user = {2**53 + 1}"))
    assert matched.sequences.tolist() == [gallery.rows[f"of-{2**53 + 1}"].sequence]
    assert source.asked == [0]
    await index.close()


async def test_nothing_else_stays_in_the_folder(folder: Path, gallery: Gallery) -> None:
    """Older snapshots go, and what a killed process began, and the matrix that a compaction replaced."""
    shutil.copytree(next(folder.glob("snapshot-*")), folder / ".snapshot-77")
    (folder / "matrix-76").write_bytes(b"begun")
    index = await open_index(folder, gallery.source, IndexKind.IVF)
    opened = sorted(path.name.partition("-")[0] for path in folder.iterdir())
    index._segments.compact(index._upkeep._snapshots.new_matrix(), lambda _: None)
    index.apply(gallery.put("later"))

    await index.close()

    assert opened == ["matrix", "snapshot"]
    assert sorted(path.name.partition("-")[0] for path in folder.iterdir()) == ["matrix", "snapshot"]
    again = await open_index(folder, gallery.source, IndexKind.IVF)
    assert again.state.tombstones == 0
    await assert_whole(again, gallery)
    await again.close()


async def test_newest_sound_snapshot_is_used(folder: Path, gallery: Gallery) -> None:
    """A process killed between two steps may leave two snapshots; the older one may be the sound one."""
    (snapshot,) = folder.glob("snapshot-*")
    newer = folder / "snapshot-99"
    shutil.copytree(snapshot, newer)
    (newer / "rows").unlink()
    source = Source(gallery)

    index = await open_index(folder, source, IndexKind.IVF)

    assert source.asked != [0]
    assert not newer.exists()
    await assert_whole(index, gallery)
    await index.close()


async def test_unchanged_index_is_not_written_again(folder: Path, gallery: Gallery) -> None:
    """Opening and closing leaves the snapshot as it is; deletions alone are known from the catalog."""
    before = list(folder.iterdir())
    index = await open_index(folder, gallery.source, IndexKind.IVF)
    index.apply(gallery.drop("item-500"))

    await index.close()

    assert list(folder.iterdir()) == before
    again = await open_index(folder, gallery.source, IndexKind.IVF)
    await assert_whole(again, gallery)
    await again.close()


async def test_folder_that_cannot_be_used_is_named(tmp_path: Path, gallery: Gallery) -> None:
    """An operator must see to it."""
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(IndexFailed, match=f"{tmp_path}/file"):
        await open_index(tmp_path / "file", gallery.source, IndexKind.IVF)
