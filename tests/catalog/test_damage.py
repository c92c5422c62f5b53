"""A file that is damaged, foreign, too new or in use is an error in one sentence, never a stack trace."""

import contextlib
import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from pspsearch.catalog import schema
from pspsearch.catalog.catalog import SqliteCatalog
from pspsearch.catalog.connections import connect_reader, connect_writer, has_checksums
from pspsearch.domain import Delete
from pspsearch.errors import CatalogDamaged, CatalogError
from tests.fakes.catalog import SETTINGS, VERSION, picture

ITEMS = 40


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    """A data folder whose catalog has a few items and is closed."""
    async with await SqliteCatalog.open(tmp_path) as catalog:
        _, generation = await catalog.create_collection("pictures", SETTINGS, VERSION)
        writes = [picture(str(number), bytes(3_000) + b"%d" % number) for number in range(ITEMS)]
        await catalog.write(generation, writes, request_id="r")
    return tmp_path


async def use(data: Path) -> None:
    """Everything that a server does with a catalog."""
    async with await SqliteCatalog.open(data) as catalog:
        await catalog.check()
        for collection, generation in await catalog.collections():
            for item in await catalog.page(collection.key, 0, ITEMS):
                await catalog.image(collection.key, item.id)
                await catalog.descriptor(generation, item.id)
            await catalog.items(collection.key, ["0", "39"])
            await catalog.attributes(collection.key, catalog.rows_of(generation).sequences().tolist())
            assert list(catalog.rows_of(generation).after(0)) is not None
            await catalog.write(generation, [Delete("5"), picture("6", b"6")], request_id="r")
            await catalog.write(generation, [picture("new", b"new")])
            await catalog.delete_collection(collection.key)


async def test_whole_file_is_used_without_complaint(data: Path) -> None:
    """Without damage, everything that the tests below expect to fail succeeds."""
    await use(data)

    async with await SqliteCatalog.open(data) as catalog:
        assert await catalog.collections() == []


@pytest.mark.parametrize("end", [0, 1, 99, 1_000, 4_096, 5_000, 40_960, -4_096])
async def test_truncated_file_is_named(data: Path, end: int) -> None:
    """This holds for every length, even none: an empty file is not taken for a new catalog."""
    path = data / "catalog.sqlite3"
    path.write_bytes(path.read_bytes()[:end])

    with pytest.raises(CatalogDamaged, match=str(path)):
        await use(data)


@pytest.mark.parametrize("page", [0, 1, 5, 10])
async def test_overwritten_page_is_found(data: Path, page: int) -> None:
    """The check reads what a server may not come across for months."""
    overwrite(data / "catalog.sqlite3", page * 4096, b"\xff" * 4096)

    with pytest.raises(CatalogDamaged, match="restore a backup"):
        await use(data)


@pytest.mark.parametrize("seed", range(30))
async def test_flipped_bytes_are_a_sentence_or_harmless(data: Path, seed: int) -> None:
    """Bytes flipped anywhere either do no harm, in free space, or raise an error of our own."""
    path = data / "catalog.sqlite3"
    chance = random.Random(seed)
    content = bytearray(path.read_bytes())
    for _ in range(20):
        content[chance.randrange(len(content))] ^= chance.randrange(1, 256)
    path.write_bytes(content)

    with contextlib.suppress(CatalogError):
        await use(data)

    assert path.exists()


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE collections SET index_kind = 'magic'", "collection 1 makes no sense"),
        ("UPDATE items SET created_us = 9000000000000000000 WHERE key = 7", "item 7 makes no sense"),
        ("UPDATE descriptors SET descriptor = x'000000'", "a descriptor makes no sense"),
        ("UPDATE items SET attributes = CAST(x'ff' AS TEXT) WHERE key = 7", "is damaged"),
    ],
)
async def test_nonsense_in_a_column_is_damage(data: Path, statement: str, words: str) -> None:
    """The structure is whole, but what stands in a column cannot be."""
    with contextlib.closing(connect_writer(data / "catalog.sqlite3")) as connection:
        connection.execute(statement)

    with pytest.raises(CatalogDamaged, match=words):
        await use(data)


@pytest.mark.parametrize("byte", [b"\xff", b"x", b"\0"])
async def test_damaged_schema_is_damage(data: Path, byte: bytes) -> None:
    """SQLite keeps the schema as text and quotes it in its error, readable or not."""
    path = data / "catalog.sqlite3"
    overwrite(path, path.read_bytes().index(b"TABLE items"), byte)

    with pytest.raises(CatalogDamaged, match=str(path)):
        await use(data)


async def test_foreign_file_is_refused_and_left_alone(data: Path) -> None:
    """Neither a file that is no database nor another program's database is written to."""
    path = data / "catalog.sqlite3"
    path.write_bytes(b"This is a text about catalogs. " * 500)
    with pytest.raises(CatalogDamaged, match=str(path)):
        await SqliteCatalog.open(data)
    assert path.read_bytes().startswith(b"This is a text")

    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
    before = path.read_bytes()
    with pytest.raises(CatalogError, match="another program's SQLite file"):
        await SqliteCatalog.open(data)
    assert path.read_bytes() == before


async def test_newer_schema_is_refused(data: Path) -> None:
    """An older program must not write into what it does not know; a newer one still can."""
    path = data / "catalog.sqlite3"
    newer = len(schema.MIGRATIONS) + 1
    with contextlib.closing(connect_writer(path)) as connection:
        connection.execute(f"PRAGMA user_version = {newer}")

    with pytest.raises(CatalogError, match=f"schema version {newer}.*newer"):
        await SqliteCatalog.open(data)

    with contextlib.closing(connect_writer(path)) as connection:
        connection.execute(f"PRAGMA user_version = {newer - 1}")
    await use(data)


async def test_older_schema_is_brought_up_to_date(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each missing step is made once, and the items stay what they were."""
    step = "ALTER TABLE items ADD COLUMN note TEXT; UPDATE items SET note = 'migrated ' || id"
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, step))

    for _ in range(2):
        async with await SqliteCatalog.open(data) as catalog:
            ((collection, _),) = await catalog.collections()
            assert len(await catalog.page(collection.key, 0, 100)) == ITEMS

    with contextlib.closing(connect_reader(data / "catalog.sqlite3")) as connection:
        assert connection.execute("SELECT note FROM items WHERE id = '3'").get == "migrated 3"
        assert connection.execute("PRAGMA user_version").get == len(schema.MIGRATIONS)


def grow_old(data: Path) -> None:
    """Takes the checksums away, as if the catalog had been written before there were any."""
    path = data / "catalog.sqlite3"
    old = path.with_name("old")
    with contextlib.closing(connect_reader(path)) as connection:
        connection.execute("VACUUM INTO ?", (f"file:{old}?reserve=0",))
    with contextlib.closing(apsw.Connection(str(old))) as connection:
        connection.execute(f"PRAGMA user_version = {schema.WITH_CHECKSUMS - 1}")
        connection.execute("PRAGMA journal_mode = WAL")
    old.rename(path)


async def test_catalog_gets_checksums_when_it_is_opened(data: Path) -> None:
    """While somebody reads it, nothing is changed; the next start adds them."""
    grow_old(data)
    path = data / "catalog.sqlite3"
    with contextlib.closing(apsw.Connection(str(path))) as other, other:
        assert not has_checksums(other)
        other.execute("SELECT COUNT(*) FROM items").fetchall()
        with pytest.raises(CatalogError):
            await SqliteCatalog.open(data)

    await use(data)

    with contextlib.closing(connect_reader(path)) as connection:
        assert connection.execute("PRAGMA user_version").get == len(schema.MIGRATIONS)
        assert has_checksums(connection)


async def test_catalog_that_has_lost_its_checksums_is_refused(data: Path) -> None:
    """The number of bytes that a page keeps for them stands in one place of the file."""
    overwrite(data / "catalog.sqlite3", 20, b"\0")

    with pytest.raises(CatalogDamaged, match="no longer says that its pages have checksums"):
        await use(data)


async def test_creation_that_was_interrupted_is_begun_anew(tmp_path: Path) -> None:
    """What a crash left of a new catalog does not get in the way of creating it again."""
    (tmp_path / "catalog.sqlite3.incoming").write_bytes(b"half a file")

    async with await SqliteCatalog.open(tmp_path) as catalog:
        assert await catalog.collections() == []

    assert sorted(path.name for path in tmp_path.iterdir()) == ["catalog.sqlite3", "lock"]


async def test_second_opener_is_refused(data: Path) -> None:
    """A second opener, in this process or another, is refused until the first has closed."""
    program = "import asyncio, pathlib, sys; from pspsearch.catalog.catalog import SqliteCatalog\n"
    program += "asyncio.run(SqliteCatalog.open(pathlib.Path(sys.argv[1])))"
    async with await SqliteCatalog.open(data):
        with pytest.raises(CatalogError, match=f"{data} belongs to another"):
            await SqliteCatalog.open(data)
        other = subprocess.run(
            [sys.executable, "-c", program, str(data)], stderr=subprocess.PIPE, text=True, check=False
        )
        assert f"CatalogError: the data folder {data} belongs to another" in other.stderr

    async with await SqliteCatalog.open(data) as catalog:
        assert len(await catalog.collections()) == 1


async def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file stands in the way of the folder."""
    (tmp_path / "file").touch()

    with pytest.raises(CatalogError, match=f"{tmp_path}/file/data cannot be used"):
        await SqliteCatalog.open(tmp_path / "file" / "data")


def overwrite(path: Path, offset: int, content: bytes) -> None:
    """Overwrites bytes in place."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)
