"""Backups are consistent while a server writes, verified, and the same catalog when restored."""

import asyncio
import contextlib
import hashlib
from pathlib import Path

import pytest

from pspsearch.catalog.backup import back_up, restore
from pspsearch.catalog.catalog import SqliteCatalog
from pspsearch.catalog.connections import connect_writer
from pspsearch.domain import Delete, Generation, Item
from pspsearch.errors import CatalogDamaged, CatalogError
from tests.fakes.catalog import SETTINGS, VERSION, picture, plain

Everything = tuple[list[Item], list[bytes | None], list[tuple[int, int, str, str, bytes]]]


async def read_all(catalog: SqliteCatalog) -> Everything:
    """All items, images and rows of the only collection."""
    ((collection, generation),) = await catalog.collections()
    items = await catalog.page(collection.key, 0, 1_000_000)
    images = [await catalog.image(collection.key, item.id) for item in items]
    return items, images, plain(catalog.rows_of(generation).after(0))


async def fill(catalog: SqliteCatalog, count: int = 50) -> Generation:
    """Creates a collection with pictures, one of them without its bytes."""
    _, generation = await catalog.create_collection("pictures", SETTINGS, VERSION)
    writes = [picture(str(number), bytes(9_000) + b"%d" % number, kept=number != 3) for number in range(count)]
    await catalog.write(generation, writes, request_id="r")
    return generation


async def test_restored_catalog_is_the_same(tmp_path: Path) -> None:
    """It has the same items with keys and sequences, images, rows and recorded requests, and counts on from there."""
    async with await SqliteCatalog.open(tmp_path / "data") as catalog:
        generation = await fill(catalog)
        (gone,) = await catalog.write(generation, [Delete("7")])
        before = await read_all(catalog)
        heard: list[float] = []
        await asyncio.to_thread(back_up, tmp_path / "data", tmp_path / "backup", heard.append)

    restore(tmp_path / "backup", tmp_path / "elsewhere")

    async with await SqliteCatalog.open(tmp_path / "elsewhere") as catalog:
        assert await read_all(catalog) == before
        assert len(await catalog.write(generation, [Delete("8")], request_id="r")) == 50
        assert await read_all(catalog) == before
        (next_,) = await catalog.write(generation, [Delete("8")])
        assert next_.sequence == gone.sequence + 1
    assert heard == sorted(heard)
    assert heard[-1] == 1.0


async def test_backup_while_writing_is_one_moment(tmp_path: Path) -> None:
    """Every write puts one item in and takes the one before out, so one such item is there at any moment.

    At least one write comes between two steps of the backup. It is made in one go all the same: it neither starts anew
    nor sees half a write.
    """
    data, loop = tmp_path / "data", asyncio.get_running_loop()
    async with await SqliteCatalog.open(data) as catalog:
        generation = await fill(catalog, 1_000)
        await catalog.write(generation, [picture("w0", b"w0")])
        state = {"written": 0}

        async def move() -> None:
            number = state["written"] = state["written"] + 1
            new = picture(f"w{number}", bytes(50_000) + b"%d" % number)
            await catalog.write(generation, [new, Delete(f"w{number - 1}")])

        def advance(share: float) -> None:
            if share < 0.5:
                asyncio.run_coroutine_threadsafe(move(), loop).result()

        await asyncio.to_thread(back_up, data, tmp_path / "backup", advance)
        items = {item.id for item in (await read_all(catalog))[0]}

    restore(tmp_path / "backup", tmp_path / "elsewhere")
    async with await SqliteCatalog.open(tmp_path / "elsewhere") as catalog:
        restored, images, rows = await read_all(catalog)

    assert state["written"] >= 2
    assert f"w{state['written']}" in items
    assert {item.id for item in restored} == {"w0", *map(str, range(1_000))}
    assert len(rows) == len(restored)
    for item, image in zip(restored, images, strict=True):
        assert item.image is not None
        assert (image is None) == (item.id == "3")
        assert image is None or hashlib.sha256(image).hexdigest() == item.image.sha256


async def test_backup_is_one_file_that_nothing_writes_to(tmp_path: Path) -> None:
    """A backup can lie where only reading is allowed, and nothing else is left beside it."""
    async with await SqliteCatalog.open(tmp_path / "data") as catalog:
        await fill(catalog)
    (tmp_path / "backups").mkdir()

    back_up(tmp_path / "data", tmp_path / "backups" / "today")
    (tmp_path / "backups" / "today").chmod(0o400)
    restore(tmp_path / "backups" / "today", tmp_path / "elsewhere")

    assert [path.name for path in (tmp_path / "backups").iterdir()] == ["today"]
    assert sorted(path.name for path in (tmp_path / "elsewhere").iterdir()) == ["catalog.sqlite3", "lock"]


@pytest.mark.parametrize("step", ["backup", "restore"])
async def test_image_that_is_not_what_it_was_is_found(tmp_path: Path, step: str) -> None:
    """An image was written wrong, with page checksums that fit: its own digest tells, and no backup is left."""
    data, backup = tmp_path / "data", tmp_path / "backup"
    async with await SqliteCatalog.open(data) as catalog:
        await fill(catalog)
    if step == "restore":
        back_up(data, backup)
    damaged = data / "catalog.sqlite3" if step == "backup" else backup
    with contextlib.closing(connect_writer(damaged)) as connection:
        connection.execute("UPDATE images SET content = zeroblob(9000) WHERE key = 20")

    with pytest.raises(CatalogDamaged, match="image 20 is not what it was"):
        back_up(data, backup) if step == "backup" else restore(backup, tmp_path / "elsewhere")

    assert not (tmp_path / "elsewhere" / "catalog.sqlite3").exists()
    assert list(tmp_path.rglob("*.incoming*")) == []
    assert backup.exists() == (step == "restore")


@pytest.mark.parametrize("share", [0, 0.3, 0.9])
async def test_truncated_backup_is_refused(tmp_path: Path, share: float) -> None:
    """After the refusal the folder is still free for a better backup."""
    async with await SqliteCatalog.open(tmp_path / "data") as catalog:
        await fill(catalog)
    back_up(tmp_path / "data", tmp_path / "backup")
    content = (tmp_path / "backup").read_bytes()
    (tmp_path / "backup").write_bytes(content[: int(len(content) * share)])

    with pytest.raises(CatalogDamaged):
        restore(tmp_path / "backup", tmp_path / "elsewhere")

    (tmp_path / "backup").write_bytes(content)
    restore(tmp_path / "backup", tmp_path / "elsewhere")
    async with await SqliteCatalog.open(tmp_path / "elsewhere") as catalog:
        assert len((await read_all(catalog))[0]) == 50


async def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """A backup replaces no file; a restore replaces no folder that holds anything, nor that of a running server."""
    async with await SqliteCatalog.open(tmp_path / "data") as catalog:
        await fill(catalog)
        (tmp_path / "there").write_text("precious")
        back_up(tmp_path / "data", tmp_path / "backup")

        with pytest.raises(CatalogError, match="there is there already"):
            back_up(tmp_path / "data", tmp_path / "there")
        with pytest.raises(CatalogError, match="belongs to another server"):
            restore(tmp_path / "backup", tmp_path / "data")
    with pytest.raises(CatalogError, match=r"data is not empty, it holds catalog\.sqlite3"):
        restore(tmp_path / "backup", tmp_path / "data")

    assert (tmp_path / "there").read_text() == "precious"


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    """A mistyped path makes neither an empty backup nor an empty catalog."""
    with pytest.raises(CatalogError, match=f"there is no catalog in {tmp_path}/data"):
        back_up(tmp_path / "data", tmp_path / "backup")
    with pytest.raises(CatalogError, match=f"there is no backup {tmp_path}/backup"):
        restore(tmp_path / "backup", tmp_path / "data")

    assert list(tmp_path.iterdir()) == []


async def test_backup_into_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The error names the path."""
    async with await SqliteCatalog.open(tmp_path / "data") as catalog:
        await fill(catalog)

    with pytest.raises(CatalogError, match=f"{tmp_path}/nowhere/backup"):
        back_up(tmp_path / "data", tmp_path / "nowhere" / "backup")
