"""`pspsearch backup`, `restore` and `salvage`."""

from pathlib import Path

from click.testing import CliRunner

from pspsearch.catalog.catalog import SqliteCatalog
from pspsearch.cli import commands
from tests.fakes.catalog import SETTINGS, VERSION, picture


async def test_what_is_backed_up_comes_back(tmp_path: Path) -> None:
    """The backup is made while the catalog is open; a second one does not replace the first."""
    data, copy, elsewhere = (tmp_path / name for name in ("data", "backup.db", "elsewhere"))
    async with await SqliteCatalog.open(data) as catalog:
        _, generation = await catalog.create_collection("pictures", SETTINGS, VERSION)
        await catalog.write(generation, [picture("a", b"image")])

        made = CliRunner().invoke(commands, ["backup", str(data), str(copy)])
        again = CliRunner().invoke(commands, ["backup", str(data), str(copy)])
    restored = CliRunner().invoke(commands, ["restore", str(copy), str(elsewhere)])

    assert made.stdout == f"{copy} holds what was in {data}\n"
    assert again.exit_code == 1
    assert again.stderr.startswith(f"error: {copy} is there already")
    assert restored.stdout == f"{elsewhere} holds what was in {copy}\n"
    async with await SqliteCatalog.open(elsewhere) as catalog:
        ((collection, _),) = await catalog.collections()
        assert await catalog.image(collection.key, "a") == b"image"


async def test_what_is_lost_is_a_line_each(tmp_path: Path) -> None:
    """The lines go to standard output, for programs; the summary is for people."""
    async with await SqliteCatalog.open(tmp_path / "data") as catalog:
        _, generation = await catalog.create_collection("pictures", SETTINGS, VERSION)
        await catalog.write(generation, [picture(str(number), bytes(20_000) + b"%d" % number) for number in range(9)])
    content = bytearray((tmp_path / "data" / "catalog.sqlite3").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "data" / "catalog.sqlite3").write_bytes(content)

    said = CliRunner().invoke(commands, ["salvage", str(tmp_path / "data"), str(tmp_path / "salvaged")])

    (line,) = said.stdout.splitlines()
    what, collection, id_ = line.split("\t")
    assert (what, collection) == ("image", "pictures")
    assert said.stderr.startswith(f"{tmp_path}/salvaged holds what was whole in {tmp_path}/data: 1 collections")
    async with await SqliteCatalog.open(tmp_path / "salvaged") as catalog:
        items = await catalog.page(generation.collection, 0, 100)
        missing = [item.id for item in items if await catalog.image(generation.collection, item.id) is None]
    assert len(items) == 9
    assert missing == [id_]


def test_nothing_to_back_up_is_a_sentence(tmp_path: Path) -> None:
    """The folder may be mistyped."""
    said = CliRunner().invoke(commands, ["backup", str(tmp_path / "nowhere"), str(tmp_path / "backup.db")])

    assert said.exit_code == 1
    assert said.stderr.startswith("error: there is no catalog in")
    assert not (tmp_path / "backup.db").exists()
