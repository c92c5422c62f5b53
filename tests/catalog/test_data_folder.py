"""Only its owner can access what lies in the data folder."""

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from pspsearch.catalog.backup import back_up, restore
from pspsearch.catalog.catalog import SqliteCatalog
from pspsearch.catalog.folder import INDEXES
from pspsearch.domain import IndexKind
from tests.fakes.catalog import SETTINGS, VERSION, picture
from tests.fakes.index import Gallery
from tests.indexes import open_index


@pytest.fixture(autouse=True)
def usual_mask() -> Iterator[None]:
    """Sets the mask of an account whose files everybody may read."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, str]:
    """The modes of the folder and of all that is in it, by name."""
    return {path.name: oct(stat.S_IMODE(path.lstat().st_mode)) for path in (folder, *folder.rglob("*"))}


def private(folder: Path) -> dict[str, str]:
    """The same modes, but without access for anybody except the owner."""
    return {path.name: oct(0o700 if path.is_dir() else 0o600) for path in (folder, *folder.rglob("*"))}


async def fill(data: Path) -> SqliteCatalog:
    """Opens a catalog with an item, and makes an index that has left a snapshot."""
    catalog = await SqliteCatalog.open(data)
    _, generation = await catalog.create_collection("pictures", SETTINGS, VERSION)
    await catalog.write(generation, [picture("a", b"a")])
    gallery = Gallery()
    for number in range(50):
        gallery.put(str(number))
    await (await open_index(data / INDEXES / "1", gallery.source, IndexKind.EXACT)).close()
    return catalog


async def test_all_that_is_made_is_its_owners_alone(tmp_path: Path) -> None:
    """This holds for the catalog with SQLite's own files, for indexes, backups, and what is restored."""
    data, backup = tmp_path / "data", tmp_path / "backup"
    async with await fill(data):
        back_up(data, backup)
        while_open = modes(data)
        assert while_open == private(data)
    restore(backup, tmp_path / "restored")

    assert {"catalog.sqlite3-wal", "catalog.sqlite3-shm", "lock", "matrix-1", "manifest.json"} <= while_open.keys()
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert modes(tmp_path / "restored") == private(tmp_path / "restored")


async def test_what_an_earlier_release_made_is_mended(tmp_path: Path) -> None:
    """The next start mends it without a word."""
    data = tmp_path / "data"
    async with await fill(data):
        pass
    for path in (data, *data.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)

    async with await SqliteCatalog.open(data):
        assert modes(data) == private(data)


async def test_what_is_not_pspsearchs_stays_as_it_is(tmp_path: Path) -> None:
    """A folder that also holds other things is left alone, and so is what a link leads to."""
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    async with await fill(data):
        pass
    data.chmod(0o755)
    elsewhere.write_text("somebody else's")
    (data / "notes").write_text("somebody else's")
    (data / "catalog.sqlite3-copy").symlink_to(elsewhere)

    async with await SqliteCatalog.open(data):
        found = modes(data)

    assert (found["data"], found["notes"], found["catalog.sqlite3"]) == ("0o755", "0o644", "0o600")
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o644


async def test_what_cannot_be_mended_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A file of another account cannot be mended; the server starts all the same."""
    async with await fill(tmp_path / "data"):
        pass
    path = tmp_path / "data" / "lock"
    path.chmod(0o644)

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)
    with caplog.at_level(logging.WARNING):
        async with await SqliteCatalog.open(tmp_path / "data"):
            pass

    assert caplog.messages == [
        f"users other than its owner can access {path}, which cannot be changed: Operation not permitted"
    ]
