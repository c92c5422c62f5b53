"""Backups: a restored one equals the original, to the bit."""

import asyncio
import itertools
import json
import subprocess
import sys
from pathlib import Path

from pspsearch.client import AsyncClient, Descriptor, ItemInput, SearchResult
from tests.faults.place import Place, fingerprint_of, item, point
from tests.pictures import encode, load_photo

ITEMS = 500


def run(*arguments: str) -> None:
    """Runs a command of pspsearch."""
    subprocess.run([sys.executable, "-m", "pspsearch", *arguments], check=True, stdout=subprocess.DEVNULL)


async def backup(place: Place, times: int) -> str:
    """A backup is taken during writes; it holds everything from before it began, whole."""
    folder = place.new_folder("backup")
    versions = itertools.count()
    kept = encode(load_photo(64, 48))
    with place.serve(folder / "data") as server:
        async with AsyncClient(server.address) as client:
            fingerprint = await fingerprint_of(client)
            items = [item(f"old{number}", number, fingerprint) for number in range(ITEMS)]
            for start in range(0, ITEMS, 100):
                await client.upsert(items[start : start + 100])
            await client.upsert([ItemInput("picture", kept, {"ü": ["\x7f", 1.5, None]})])
            stop = asyncio.Event()

            async def go_on() -> None:
                while not stop.is_set():
                    number = next(versions)
                    await client.upsert([item(f"new{number}", number, fingerprint)])

            writing = asyncio.create_task(go_on())
            for number in range(times):
                await asyncio.to_thread(run, "backup", str(folder / "data"), str(folder / f"{number}.backup"))
            stop.set()
            await writing
            before = await _content(client, fingerprint, "old")
    for number in range(times):
        data = folder / f"restored-{number}"
        await asyncio.to_thread(run, "restore", str(folder / f"{number}.backup"), str(data))
        with place.serve(data) as server:
            async with AsyncClient(server.address) as client:
                assert await _content(client, fingerprint, "old") == before
                assert await client.get_image("picture") == kept
                new = [int(one.id[3:]) async for one in client.list() if one.id.startswith("new")]
                assert sorted(new) == list(range(len(new))), "a later write is there without an earlier one"
        assert _leftovers(data.parent) == []
    return f"{times} backups under {next(versions)} writes: ids, attributes, descriptors and answers the same"


async def _content(client: AsyncClient, fingerprint: str, prefix: str) -> tuple[list[str], list[object]]:
    """Every item with its descriptor's bits, and the answers to searches."""
    items: list[str] = []
    async for one in client.list(page_size=1000):
        if one.id.startswith((prefix, "picture")):
            whole = await client.get(one.id, descriptor=True)
            assert whole.descriptor is not None
            items.append(json.dumps([one.id, one.attributes, whole.descriptor.values.tobytes().hex()]))
    answers: list[SearchResult] = []
    for number in range(0, ITEMS, 50):
        query = Descriptor(point(f"old{number}", number), fingerprint)
        answers.append(await client.search(query, filter="version:*", limit=1))
    return items, [[(hit.id, hit.score) for hit in answer.hits] for answer in answers]


def _leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*.incoming")]
