"""A process that is killed while it writes loses nothing acknowledged, and brings back nothing deleted."""

import asyncio
import contextlib
import hashlib
import random
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from pspsearch.catalog.catalog import SqliteCatalog
from pspsearch.catalog.connections import connect_reader
from pspsearch.domain import Delete
from tests.fakes.catalog import SETTINGS, VERSION, picture

WRITERS = 6
IMAGES = 20
"""The number of different images, so that many items share one, whose last owner goes sooner or later."""


@pytest.mark.parametrize("repetitions", [4, pytest.param(50, marks=pytest.mark.slow)])
async def test_what_was_acknowledged_is_there_after_a_kill(tmp_path: Path, repetitions: int) -> None:
    """The process is killed at random moments, on one catalog. The seed is 1, but the moments depend on the machine."""
    chance = random.Random(1)
    put, going, dropped = set[str](), set[str](), set[str]()
    for repetition in range(repetitions):
        said = kill_after(tmp_path, repetition, acknowledgements=chance.randrange(1, 400))
        put |= {id_ for word, id_ in said if word == "put"}
        going |= {id_ for word, id_ in said if word == "drop"}
        dropped |= {id_ for word, id_ in said if word == "dropped"}

        async with await SqliteCatalog.open(tmp_path) as catalog:
            there = await read(catalog)

        assert put - going <= there, "an acknowledged item is lost"
        assert not there & dropped, "a deleted item has come back"
        assert_sound(tmp_path)
    assert put - going
    assert dropped


def kill_after(data: Path, repetition: int, acknowledgements: int) -> list[tuple[str, str]]:
    """What the child said until it was killed, after at least so many lines."""
    command = [sys.executable, "-m", "tests.catalog.test_killed", str(data), str(repetition)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        lines = read_lines(child.stdout, acknowledgements)
        child.kill()
        lines += child.stdout.readlines()
    assert len(lines) >= acknowledgements, "the child ended by itself"
    return [(word, id_) for word, _, id_ in (line.strip().partition(" ") for line in lines)]


def read_lines(stream: IO[str], count: int) -> list[str]:
    """Reads so many lines, or fewer if the stream ends."""
    return [line for line in (stream.readline() for _ in range(count)) if line]


async def read(catalog: SqliteCatalog) -> set[str]:
    """The ids of all items; each has its image and is in the rows of an index."""
    ((collection, generation),) = await catalog.collections()
    items = await catalog.page(collection.key, 0, 1_000_000)
    rows = {row.id: row.sequence for row in catalog.rows_of(generation).after(0)}
    assert rows == {item.id: item.sequence for item in items}
    for item in items[-IMAGES:]:
        image = await catalog.image(collection.key, item.id)
        assert item.image is not None
        assert image is not None
        assert hashlib.sha256(image).hexdigest() == item.image.sha256
    return {item.id for item in items}


def assert_sound(data: Path) -> None:
    """Asserts that every image belongs to an item, and that SQLite finds nothing wrong."""
    with contextlib.closing(connect_reader(data / "catalog.sqlite3")) as connection:
        unused = connection.execute("SELECT COUNT(*) FROM images WHERE key NOT IN (SELECT image FROM items)")
        assert unused.get == 0
        assert connection.execute("PRAGMA integrity_check").get == "ok"
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


async def write_until_killed(data: Path, repetition: str) -> None:
    """Runs in the child: says what it is about to delete, and what was acknowledged."""
    catalog = await SqliteCatalog.open(data)
    there = await catalog.collections()
    _, generation = there[0] if there else await catalog.create_collection("pictures", SETTINGS, VERSION)

    async def write(writer: int) -> None:
        for number in range(1_000_000):
            id_, old = f"{repetition}.{writer}.{number}", f"{repetition}.{writer}.{number - 3}"
            await catalog.write(generation, [picture(id_, bytes(5_000) + b"%d" % (number % IMAGES))])
            say(f"put {id_}")
            if number % 2 and number > 3:
                say(f"drop {old}")
                await catalog.write(generation, [Delete(old)])
                say(f"dropped {old}")

    await asyncio.gather(*(write(writer) for writer in range(WRITERS)))


def say(line: str) -> None:
    """Writes one line in one piece, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(write_until_killed(Path(sys.argv[1]), sys.argv[2]))
