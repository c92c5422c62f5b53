"""What is whole in a damaged catalog is taken out unchanged, and what is lost is named."""

import contextlib
from pathlib import Path

import pytest

from pspsearch.catalog.catalog import SqliteCatalog
from pspsearch.catalog.connections import connect_reader, connect_writer
from pspsearch.catalog.salvage import Loss, Tell, salvage
from pspsearch.domain import Delete
from pspsearch.errors import CatalogDamaged, CatalogError
from tests.fakes.catalog import SETTINGS, VERSION, picture

ITEMS = 60
PAGE_BYTES = 4096

Told = list[tuple[Loss, str, str]]
Content = dict[str, tuple[str, bytes | None, bytes | None]]
"""Attributes, image and descriptor by id."""


@pytest.fixture(scope="module")
async def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Content]:
    """The bytes of a catalog and its content; most items have images that need pages of their own."""
    data = tmp_path_factory.mktemp("sound")
    async with await SqliteCatalog.open(data) as catalog:
        _, generation = await catalog.create_collection("pictures", SETTINGS, VERSION)
        writes = [picture(str(number), bytes(2_500) + b"%d" % number, kept=number % 5 > 0) for number in range(ITEMS)]
        await catalog.write(generation, writes, request_id="r")
    with contextlib.closing(connect_writer(data / "catalog.sqlite3")) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    return (data / "catalog.sqlite3").read_bytes(), await read(data)


async def read(data: Path) -> Content:
    """Reads everything in the catalog, after a check of the whole file."""
    async with await SqliteCatalog.open(data) as catalog:
        await catalog.check()
        return {
            item.id: (
                item.attributes,
                await catalog.image(collection.key, item.id),
                None if (found := await catalog.descriptor(generation, item.id)) is None else found.tobytes(),
            )
            for collection, generation in await catalog.collections()
            for item in await catalog.page(collection.key, 0, 10 * ITEMS)
        }


def damaged(folder: Path, content: bytes, *pages: int) -> Path:
    """A data folder with the catalog, in which one bit of each of these pages is flipped."""
    folder.mkdir()
    flipped = bytearray(content)
    for page in pages:
        flipped[page * PAGE_BYTES + 2_001] ^= 0x10
    (folder / "catalog.sqlite3").write_bytes(flipped)
    return folder


def listen(told: Told) -> Tell:
    """Keeps what salvage reports."""
    return lambda loss, collection, id_: told.append((loss, collection, id_))


def forget(*_: object) -> None:
    """Ignores what salvage reports."""


async def test_any_page_can_be_lost(tmp_path: Path, sound: tuple[bytes, Content]) -> None:
    """Each page is lost in turn: what comes out is what was in, and everything missing is reported for its item."""
    content, before = sound
    nothing = whole = 0
    for page in range(len(content) // PAGE_BYTES):
        data, target = damaged(tmp_path / f"{page}", content, page), tmp_path / f"{page}.salvaged"
        told: Told = []
        try:
            salvage(data, target, listen(told))
        except CatalogDamaged as error:
            assert "nothing can be taken out: restore a backup" in str(error)  # noqa: PT017 - some pages only
            assert [path.name for path in target.iterdir()] == ["lock"]
            nothing += 1
            continue
        after = await read(target)
        whole += after == before
        lost = {loss: {id_ for one, _, id_ in told if one is loss} for loss in Loss}
        assert after.keys() == before.keys() - lost[Loss.ITEM]
        for id_, (attributes, image, descriptor) in after.items():
            assert attributes == before[id_][0]
            assert image == (None if id_ in lost[Loss.IMAGE] else before[id_][1])
            assert descriptor == (None if id_ in lost[Loss.DESCRIPTOR] else before[id_][2])
    pages = len(content) // PAGE_BYTES
    assert nothing <= 4, f"of {pages} pages, {nothing} take everything with them"
    assert whole < pages / 4, "pages of images, items and descriptors are most of them"


async def test_several_pages_can_be_lost(tmp_path: Path, sound: tuple[bytes, Content]) -> None:
    """The lost pages lie beside each other and apart; what is put in again afterwards is there."""
    content, before = sound
    last = len(content) // PAGE_BYTES - 1
    data = damaged(tmp_path / "data", content, last, last - 1, last - 2, last - 20, last - 30)
    told: Told = []

    rows = salvage(data, tmp_path / "target", listen(told))

    after = await read(tmp_path / "target")
    assert rows["items"] == len(after)
    assert {collection for _, collection, _ in told} == {"pictures"}
    assert before != after
    async with await SqliteCatalog.open(tmp_path / "target") as catalog:
        ((_, generation),) = await catalog.collections()
        for _, _, id_ in told:
            await catalog.write(generation, [Delete(id_), picture(id_, b"again")])
    assert (await read(tmp_path / "target")).keys() == before.keys()


async def test_sequences_go_on(tmp_path: Path, sound: tuple[bytes, Content]) -> None:
    """Sequences go on, so that an index of the damaged catalog is never taken for one of the new one."""
    data = damaged(tmp_path / "data", sound[0])
    async with await SqliteCatalog.open(data) as catalog:
        ((_, generation),) = await catalog.collections()
        (gone,) = await catalog.write(generation, [Delete("7")])

    salvage(data, tmp_path / "target", forget)

    async with await SqliteCatalog.open(tmp_path / "target") as catalog:
        ((_, generation),) = await catalog.collections()
        (written,) = await catalog.write(generation, [picture("new", b"new")])
    assert written.sequence == gone.sequence + 1


@pytest.mark.parametrize(
    ("table", "name", "there"),
    [("collections", "salvaged-1", ITEMS), ("generations", "", 0), ("requests", "pictures", ITEMS)],
)
async def test_row_that_others_hang_on_can_be_lost(
    tmp_path: Path, sound: tuple[bytes, Content], table: str, name: str, there: int
) -> None:
    """A lost collection gets a made-up name; without its model's fingerprint its descriptors mean nothing."""
    data = damaged(tmp_path / "data", sound[0])
    path = data / "catalog.sqlite3"
    with contextlib.closing(connect_reader(path)) as connection:
        root: int = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).get
    data = damaged(tmp_path / "damaged", sound[0], root - 1)
    told: Told = []

    salvage(data, tmp_path / "target", listen(told))

    async with await SqliteCatalog.open(tmp_path / "target") as catalog:
        assert [collection.name for collection, _ in await catalog.collections()] == [name] * bool(name)
    assert len(await read(tmp_path / "target")) == there
    assert sum(loss is Loss.ITEM for loss, _, _ in told) == ITEMS - there


async def test_whole_catalog_loses_nothing(tmp_path: Path, sound: tuple[bytes, Content]) -> None:
    """Everything is there, and nothing is reported."""
    told: Told = []

    salvage(damaged(tmp_path / "data", sound[0]), tmp_path / "target", listen(told))

    assert told == []
    assert await read(tmp_path / "target") == sound[1]


async def test_what_must_not_be_is_refused(tmp_path: Path, sound: tuple[bytes, Content]) -> None:
    """Refused are a folder in use, one without a catalog, and a target that is not empty."""
    data = damaged(tmp_path / "data", sound[0])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").touch()

    with pytest.raises(CatalogError, match="holds precious"):
        salvage(data, tmp_path / "full", forget)
    with pytest.raises(CatalogError, match="there is no catalog"):
        salvage(tmp_path / "nowhere", tmp_path / "target", forget)
    async with await SqliteCatalog.open(data):
        with pytest.raises(CatalogError, match="belongs to another server"):
            salvage(data, tmp_path / "target", forget)
