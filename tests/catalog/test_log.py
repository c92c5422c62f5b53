"""A log that was damaged after its server was killed is refused; one that a power loss tore is not."""

import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from pspsearch.catalog.backup import back_up
from pspsearch.catalog.catalog import SqliteCatalog
from pspsearch.catalog.salvage import Loss, salvage
from pspsearch.errors import CatalogDamaged
from tests.fakes.catalog import SETTINGS, VERSION, picture

WRITES = 20
HEADER = 32


@dataclass(frozen=True, slots=True)
class Killed:
    """What a killed server left behind, and how long its log was after each write."""

    data: Path
    lengths: list[int]

    @property
    def log(self) -> Path:
        """The log that holds its transactions, none of which is in the catalog yet."""
        return self.data / "catalog.sqlite3-wal"


async def write(source: Path, copy: Path, numbers: range) -> Killed:
    """Makes one write per number; the copy is what a kill would leave."""
    lengths: list[int] = []
    async with await SqliteCatalog.open(source) as catalog:
        if not await catalog.collections():
            await catalog.create_collection("pictures", SETTINGS, VERSION)
        ((_, generation),) = await catalog.collections()
        for number in numbers:
            await catalog.write(generation, [picture(str(number), bytes(3_000 * (number % 3)) + b"%d" % number)])
            lengths.append((source / "catalog.sqlite3-wal").stat().st_size)
        copy.mkdir()
        for file in source.glob("catalog.sqlite3*"):
            if not file.name.endswith("-shm"):
                shutil.copy(file, copy)
    return Killed(copy, lengths)


@pytest.fixture
async def killed(tmp_path: Path) -> Killed:
    """What a server that was killed after some writes left."""
    return await write(tmp_path / "source", tmp_path / "killed", range(WRITES))


async def ids(data: Path) -> list[str]:
    """The ids of all items that are found there."""
    async with await SqliteCatalog.open(data) as catalog:
        ((collection, _),) = await catalog.collections()
        return [item.id for item in await catalog.page(collection.key, 0, 2 * WRITES)]


def flip(path: Path, place: int, bit: int) -> None:
    """Flips one bit."""
    with path.open("r+b") as file:
        file.seek(place)
        (byte,) = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ 1 << bit]))


async def test_all_that_a_killed_server_wrote_is_there(killed: Killed) -> None:
    """Without damage, everything that the tests below expect to fail succeeds."""
    assert await ids(killed.data) == [str(number) for number in range(WRITES)]


@pytest.mark.parametrize("place", range(HEADER))
async def test_damaged_header_is_found(killed: Killed, place: int) -> None:
    """SQLite would silently ignore the whole log."""
    flip(killed.log, place, place % 8)

    with pytest.raises(CatalogDamaged, match=r"-wal is damaged: .* are lost; restore .* pspsearch salvage"):
        await ids(killed.data)


@pytest.mark.parametrize("seed", range(40))
async def test_flipped_bit_is_found(killed: Killed, seed: int) -> None:
    """A flipped bit is found anywhere before the last two writes; the check changes nothing, and a salvage works."""
    chance = random.Random(seed)
    place = chance.randrange(HEADER, killed.lengths[-3])
    flip(killed.log, place, chance.randrange(8))
    before = killed.log.read_bytes()

    for _ in range(2):
        with pytest.raises(CatalogDamaged, match="transactions after its frame"):
            await ids(killed.data)
    assert killed.log.read_bytes() == before

    with pytest.raises(CatalogDamaged, match="transactions after its frame"):
        back_up(killed.data, killed.data.with_name("backup"))
    whole = sum(length <= place for length in killed.lengths)
    if whole:
        told: list[tuple[Loss, str, str]] = []
        salvage(killed.data, killed.data.with_name("salvaged"), lambda loss, name, id_: told.append((loss, name, id_)))
        ((loss, collection, words),) = told
        assert (loss, collection) == (Loss.WRITES, "")
        assert words.endswith("are lost")
        assert await ids(killed.data.with_name("salvaged")) == [str(number) for number in range(whole)]


@pytest.mark.parametrize("part", [0.01, 0.5, 0.99])
async def test_torn_end_is_none(killed: Killed, part: float) -> None:
    """A torn end is no loss: it belongs to a write that was never acknowledged."""
    begin, end = killed.lengths[-2:]
    flip(killed.log, int(begin + part * (end - begin)), 3)

    assert await ids(killed.data) == [str(number) for number in range(WRITES - 1)]


async def test_what_torn_ends_leave_behind_is_none(tmp_path: Path, killed: Killed) -> None:
    """A shorter write lies over a torn one, and is torn itself."""
    torn = killed.lengths[-2] + 30
    flip(killed.log, torn, 3)
    again = await write(killed.data, tmp_path / "again", range(WRITES + 1, WRITES + 2))
    flip(again.log, torn, 3)

    assert again.log.stat().st_size == killed.lengths[-1]
    assert await ids(again.data) == [str(number) for number in range(WRITES - 1)]


@pytest.mark.parametrize("length", [0, 10, HEADER, HEADER + 10, HEADER + 24 + 4096])
async def test_short_log_is_read_as_far_as_it_goes(killed: Killed, length: int) -> None:
    """A power loss before anything was synced leaves a short log."""
    with killed.log.open("r+b") as log:
        log.truncate(length)

    async with await SqliteCatalog.open(killed.data) as catalog:
        assert await catalog.collections() == []
