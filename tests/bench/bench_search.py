"""Searches by image through the whole server, against the sum of its parts and against the bare model.

The server is a separate process; Triton, the server and this client share the machine's cores.
"""

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from pspsearch.client import AsyncClient, CollectionState, Descriptor, ItemInput
from pspsearch.config import BundledTritonSettings
from pspsearch.domain import Descriptors
from pspsearch.errors import Overloaded, PspsearchError
from pspsearch.images.pixels import decode_pixels
from pspsearch.index.scoring import flat_over
from pspsearch.model.repository import default_repository
from pspsearch.triton.client import TritonClient
from pspsearch.triton.describer import TritonDescriber
from pspsearch.triton.process import BundledTriton
from tests.bench.perf_analyzer import measure
from tests.bench.points import clustered
from tests.pictures import encode, load_photo
from tests.servers.search_server import serve

MODEL = "pspnet"
ITEMS = 20_000
TURNS, CALLS = 6, 50
CONCURRENCIES = (8, 16, 32)
SECONDS, STEADY_S = 6.0, 15.0
IMPORTED = 600
PARTS = ("decode", "inference", "index search")


async def main() -> None:
    """Prints a lone search's latency over the sum of its parts, and the throughput under load over the bare model's."""
    image = encode(load_photo(500, 375))
    points = clustered(ITEMS, 256, seed=1)
    async with BundledTriton(BundledTritonSettings(default_repository())) as triton:
        triton.require(MODEL)
        with tempfile.TemporaryDirectory() as folder, serve(Path(folder), triton.address) as server:
            async with AsyncClient(server.address) as client:
                await fill(client, points)
                whole_ms, row_ms, parts_ms = await _take_turns(client, triton.address, image, points)
                bare = await _bare_images_per_s(triton.address)
                searched = max([await load(lambda: client.search(image), n) for n in CONCURRENCIES])
                steady_ms = await by_chance_ms(lambda: client.search(image), 0.7 * searched, STEADY_S)
                flood = await _flood(client, image, 5 * searched)
                batches = await _batched_images_per_s(triton.address)
            async with AsyncClient(server.address) as importer:  # the other still holds itself back after the flood
                imported = await _import(importer, image)
    alone, in_a_row = [float(np.median(part)) for part in parts_ms], float(np.median(row_ms))
    table = Table(title=f"search by image (500x375 JPEG) over {ITEMS:,} items, 10 hits")
    for heading in ("figure", "parts", "server", "ratio", "target"):
        table.add_column(heading, justify="right")
    whole = float(np.median(whole_ms))
    for name, part in zip(PARTS, alone, strict=True):
        table.add_row(f"{name}, p50 of it alone in ms", f"{part:.2f}", "", "", "")
    table.add_row("p50 over their sum, ms", f"{sum(alone):.2f}", f"{whole:.2f}", f"{whole / sum(alone):.2f}", "<= 1.15")
    table.add_row("p50 over all three in a row, ms", f"{in_a_row:.2f}", f"{whole:.2f}", f"{whole / in_a_row:.2f}", "")
    table.add_row("p99 at concurrency 1, ms", "", f"{np.percentile(whole_ms, 99):.2f}", "", "")
    table.add_row("best throughput, images/s", f"{bare:.0f}", f"{searched:.0f}", f"{searched / bare:.2f}", ">= 0.9")
    p50, p99 = np.percentile(steady_ms, (50, 99))
    table.add_row("p50 / p99 at 70 % of that, ms", "", f"{p50:.1f} / {p99:.1f}", f"{p99 / p50:.2f}", "<= 2")
    goodput = flood.answered / flood.seconds
    table.add_row(
        "answers/s at 5 times that", f"{searched:.0f}", f"{goodput:.0f}", f"{goodput / searched:.2f}", ">= 0.9"
    )
    refused = " / ".join(f"{ms:.1f}" for ms in np.percentile(flood.refused_ms or [np.nan], (50, 99)))
    table.add_row("p50 / p99 of refusals then, ms", "", refused, "", "<= 10")
    table.add_row("neither answered nor refused then", "", str(len(flood.failed)), "", "0")
    table.add_row("import, images/s", f"{batches:.0f}", f"{imported:.0f}", f"{imported / batches:.2f}", ">= 0.85")
    Console().print(table)


async def fill(client: AsyncClient, points: Descriptors, *, collection: str = "default") -> None:
    """Writes the descriptors as items p0, p1, ..."""
    fingerprint = (await state_of(client, collection)).origin.fingerprint
    items = (ItemInput(f"p{number}", Descriptor(point, fingerprint)) for number, point in enumerate(points))
    async for acknowledgement in client.ingest(items, collection=collection):
        if acknowledgement.error is not None:
            raise acknowledgement.error


async def state_of(client: AsyncClient, collection: str = "default") -> CollectionState:
    """The collection's present state."""
    state = (await client.get_collection(collection)).state
    assert state is not None
    return state


async def _take_turns(
    client: AsyncClient, triton: str, image: bytes, points: Descriptors
) -> tuple[list[float], list[float], list[list[float]]]:
    """Times whole searches, each part alone and the parts in a row, a few of each in turn on the same machine."""
    matrix = points.astype(np.float16)
    index = flat_over(matrix)
    whole_ms: list[float] = []
    row_ms: list[float] = []
    parts_ms: list[list[float]] = [[] for _ in PARTS]
    async with TritonClient(triton) as plain, await TritonDescriber.open(plain, MODEL) as describer:
        shape = describer.version.contract.shape
        pixels = decode_pixels(image, shape)[None]
        described = (await describer.describe(pixels)).descriptors

        async def in_a_row() -> object:
            """Just this, because it meets colder caches than a loop over one part."""
            one = decode_pixels(image, shape)[None]
            return index.search((await describer.describe(one)).descriptors, 10)

        for _ in range(TURNS):
            whole_ms += [await timed(lambda: client.search(image)) for _ in range(CALLS)]
            parts_ms[0] += [await timed(lambda: _now(lambda: decode_pixels(image, shape))) for _ in range(CALLS)]
            parts_ms[1] += [await timed(lambda: describer.describe(pixels)) for _ in range(CALLS)]
            parts_ms[2] += [await timed(lambda: _now(lambda: index.search(described, 10))) for _ in range(CALLS)]
            row_ms += [await timed(in_a_row) for _ in range(CALLS)]
    return whole_ms, row_ms, parts_ms


async def load(ask: Callable[[], Awaitable[object]], concurrency: int) -> float:
    """Closed loop: the answers per second."""
    end = time.perf_counter() + SECONDS
    answers = 0

    async def go_on() -> None:
        nonlocal answers
        while time.perf_counter() < end:
            await ask()
            answers += 1

    started = time.perf_counter()
    await asyncio.gather(*(go_on() for _ in range(concurrency)))
    return answers / (time.perf_counter() - started)


async def by_chance(
    ask: Callable[[], Awaitable[object]], rate: float, until: asyncio.Event
) -> list[tuple[float, float]]:
    """Open loop: calls at random moments, `rate` a second on average; when each was due, and its milliseconds since."""
    chance = np.random.default_rng(0)
    times: list[tuple[float, float]] = []

    async def call(due: float) -> None:
        await ask()
        times.append((due, 1000 * (time.perf_counter() - due)))

    due = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        while not until.is_set():
            due += chance.exponential(1 / rate)
            await asyncio.sleep(due - time.perf_counter())
            group.create_task(call(due))
    return times


async def by_chance_ms(ask: Callable[[], Awaitable[object]], rate: float, seconds: float) -> list[float]:
    """The milliseconds of such calls during `seconds`."""
    until = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, until.set)
    return [took for _, took in await by_chance(ask, rate, until)]


@dataclass(slots=True)
class _Flood:
    """The results of more calls than the server can answer."""

    answered: int = 0
    seconds: float = 0.0
    refused_ms: list[float] = field(default_factory=list[float])
    failed: list[str] = field(default_factory=list[str])


async def _flood(client: AsyncClient, image: bytes, rate: float) -> _Flood:
    flood = _Flood()

    async def call() -> None:
        started = time.perf_counter()
        try:
            await client.search(image)
            flood.answered += 1
        except Overloaded as error:
            if error.request_id:  # otherwise, its client did not send it
                flood.refused_ms.append(1000 * (time.perf_counter() - started))
        except PspsearchError as error:
            flood.failed.append(str(error))

    started = time.perf_counter()
    await by_chance_ms(call, rate, STEADY_S)
    flood.seconds = time.perf_counter() - started
    return flood


async def _bare_images_per_s(triton: str) -> float:
    loads = [await asyncio.to_thread(measure, triton, MODEL, n, shared_memory=True) for n in CONCURRENCIES]
    return max((load.per_s for load in loads if load), default=float("nan"))


async def _batched_images_per_s(triton: str) -> float:
    """The rate of the model alone with full batches, two at a time."""
    async with TritonClient(triton) as plain, await TritonDescriber.open(plain, MODEL) as describer:
        shape = describer.version.contract.shape
        pixels = np.random.default_rng(0).integers(0, 256, (32, shape.height_px, shape.width_px, 3)).astype(np.uint8)
        return 32 * await load(lambda: describer.describe(pixels), 2)


async def _import(client: AsyncClient, image: bytes) -> float:
    """The rate for one picture under many ids, with different bytes appended so that each is described."""
    await client.create_collection("imported")
    items = [ItemInput(f"i{number}", image + number.to_bytes(4)) for number in range(IMPORTED)]
    started = time.perf_counter()
    async for acknowledgement in client.ingest(items, collection="imported"):
        if acknowledgement.error is not None:
            raise acknowledgement.error
    return IMPORTED / (time.perf_counter() - started)


async def timed(ask: Callable[[], Awaitable[object]]) -> float:
    """How many milliseconds the call took."""
    started = time.perf_counter()
    await ask()
    return 1000 * (time.perf_counter() - started)


async def _now(act: Callable[[], object]) -> object:
    return act()


if __name__ == "__main__":
    asyncio.run(main())
