"""Searches that do more than a plain one, each beside a plain one of the same picture, in turns.

The server runs the model itself.
"""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from pspsearch.client import AsyncClient, ItemInput, Region
from tests.bench.bench_search import fill, timed
from tests.bench.points import clustered
from tests.pictures import encode, load_photo
from tests.servers.search_server import serve

ITEMS, TURNS = 20_000, 200
PICTURES = {"500x375": (500, 375), "4000x3000": (4000, 3000)}
ITEM = "a picture"
HALF, QUARTER = (0.25, 0.25, 0.75, 0.75), (0.4, 0.4, 0.65, 0.65)

Ask = Callable[[], Awaitable[object]]


async def main() -> None:
    """Prints the median of each, and how much of the plain one's time it takes."""
    table = Table(title=f"searches by image over {ITEMS:,} items, 10 hits, one at a time, the model inside")
    for heading in ("picture", "search", "p50, ms", "over plain", "target"):
        table.add_column(heading, justify="right")
    with (
        tempfile.TemporaryDirectory() as folder,
        serve(Path(folder), "", "--runtime", "embedded") as server,
    ):
        async with AsyncClient(server.address) as client:
            await fill(client, clustered(ITEMS, 256, seed=1))
            for name, size in PICTURES.items():
                image = encode(load_photo(*size))
                await client.upsert([ItemInput(ITEM, image)])
                await _measure(table, client, name, image)
    Console().print(table)


async def _measure(table: Table, client: AsyncClient, picture: str, image: bytes) -> None:
    asks: dict[str, tuple[Ask, str]] = {
        "plain": (lambda: client.search(image), ""),
        "a box of half of each side": (lambda: client.search(Region(image, HALF)), "<= 1.15"),
        "a box of a quarter of each side": (lambda: client.search(Region(image, QUARTER)), "<= 1.15"),
        "expand=5": (lambda: client.search(image, expand=5), ""),
        "rerank=100": (lambda: client.search(image, rerank=100), ""),
        "rerank=300": (lambda: client.search(image, rerank=300), ""),
        "diversity=0.5": (lambda: client.search(image, diversity=0.5), ""),
        "Explain, which describes two pictures": (lambda: client.explain(image, ITEM), "<= 2.1"),
    }
    times: dict[str, list[float]] = {name: [] for name in asks}
    for _ in range(TURNS):
        for name, (ask, _) in asks.items():
            times[name].append(await timed(ask))
    plain = float(np.median(times["plain"]))
    for name, (_, target) in asks.items():
        p50 = float(np.median(times[name]))
        table.add_row(picture, name, f"{p50:.2f}", f"{p50 / plain:.2f}", target)


if __name__ == "__main__":
    asyncio.run(main())
