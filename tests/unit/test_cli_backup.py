"""`pspsearch backup` and `restore`."""

from pathlib import Path

from click.testing import CliRunner

from pspsearch.catalog.catalog import SqliteCatalog
from pspsearch.cli import commands
from tests.fakes.catalog import SETTINGS, VERSION, picture


async def test_what_is_backed_up_comes_back(tmp_path: Path) -> None:
    """While the catalog is open; a second backup does not replace the first."""
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


def test_nothing_to_back_up_is_a_sentence(tmp_path: Path) -> None:
    """A mistyped folder."""
    said = CliRunner().invoke(commands, ["backup", str(tmp_path / "nowhere"), str(tmp_path / "backup.db")])

    assert said.exit_code == 1
    assert said.stderr.startswith("error: there is no catalog in")
    assert not (tmp_path / "backup.db").exists()
