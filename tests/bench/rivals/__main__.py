"""`make rivals`: searches by image beside the usual alternatives, on the same cores, one after the other.

All have the same network, photographs and 100,000 descriptors, and answer one client with 10 hits for a JPEG. Words
choose among the rivals.
"""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from pspsearch.client import AsyncClient
from pspsearch.config import BundledTritonSettings
from pspsearch.model.repository import default_repository
from pspsearch.triton.process import BundledTriton
from tests.bench.bench_search import by_chance_ms, fill, load, state_of, timed
from tests.bench.processor_time import spending
from tests.bench.queueing import p99_ms
from tests.bench.rivals.environments import python_of
from tests.bench.rivals.gallery import HITS, ITEMS, MODEL, Gallery, open_gallery
from tests.bench.rivals.http import Poster
from tests.bench.rivals.measured import Measured
from tests.bench.rivals.process import free_port, running, until_it_answers
from tests.servers.search_server import serve

Ask = Callable[[bytes], Awaitable[list[str]]]
"""From an image to the ids of its hits."""

PROGRAMS = Path(__file__).with_name("programs")
ROUNDS, ALONE = 2, 300
CONCURRENCIES = (8, 16, 32)
STEADY_S = 15.0
CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True)
class Rival:
    """One of the programs beside this file."""

    name: str
    environment: str
    program: str
    hint: str = "THROUGHPUT"
    form_field: str = ""
    needs_triton: bool = False


RIVALS = (
    Rival("FastAPI, OpenVINO for latency, USearch", "fastapi", "fastapi_usearch.py", "LATENCY"),
    Rival("FastAPI, OpenVINO for throughput, USearch", "fastapi", "fastapi_usearch.py"),
    Rival("LitServe, OpenVINO, FAISS", "litserve", "litserve_faiss.py", form_field="request"),
    Rival("Ray Serve, OpenVINO, FAISS", "ray", "ray_faiss.py"),
    Rival("FastAPI, Triton, Milvus Lite", "milvus", "triton_milvus.py", needs_triton=True),
)


THROUGH_TRITON, EMBEDDED = "pspsearch, through Triton", "pspsearch, embedded"


@dataclass(slots=True)
class ByImage(Measured):
    """Measurements by image, including an open loop, and the milliseconds of one core that a search takes in all.

    That is the client's, the server's and the model's together.
    """

    steady_ms: list[float] = field(default_factory=list[float])
    full_core_ms: list[float] = field(default_factory=list[float])
    """At the concurrency with the most searches per second."""
    steady_core_ms: list[float] = field(default_factory=list[float])


async def main(words: list[str]) -> None:
    """Prints one row for each, the bare parts first."""
    rivals = [rival for rival in RIVALS if not words or any(word in rival.name for word in words)]
    if not rivals:
        sys.exit(f"no rival's name has any of {words}: {', '.join(rival.name for rival in RIVALS)}")
    settings = BundledTritonSettings(default_repository())
    async with BundledTriton(settings) as triton:
        triton.require(MODEL)
        gallery = await open_gallery(triton.address)
        async with _pspsearch(gallery, triton.address):
            pass  # the gallery is now written and its index built
    bare = await asyncio.to_thread(_bare, gallery)
    steady = bare.rate / 2
    measured = {name: ByImage() for name in (THROUGH_TRITON, EMBEDDED, *(rival.name for rival in rivals))}
    for number in range(ROUNDS):
        print(f"round {number + 1} of {ROUNDS}, some minutes", file=sys.stderr)
        async with BundledTriton(settings) as triton, _pspsearch(gallery, triton.address) as ask:
            await _measure(measured[THROUGH_TRITON], ask, gallery, steady)
        async with _pspsearch(gallery, "", "--runtime", "embedded") as ask:
            await _measure(measured[EMBEDDED], ask, gallery, steady)
        for rival in rivals:
            async with contextlib.AsyncExitStack() as stack:
                needed = await stack.enter_async_context(BundledTriton(settings)) if rival.needs_triton else None
                ask = await stack.enter_async_context(_started(rival, gallery, needed.address if needed else ""))
                await _measure(measured[rival.name], ask, gallery, steady)
    _print(bare, measured, steady)


@contextlib.asynccontextmanager
async def _pspsearch(gallery: Gallery, triton: str, *flags: str) -> AsyncGenerator[Ask]:
    with serve(gallery.folder / "pspsearch", triton, *flags) as server:
        async with AsyncClient(server.address, timeout_s=120) as client:
            if await client.count() < ITEMS:
                await fill(client, gallery.vectors)
            while (await state_of(client)).background:
                await asyncio.sleep(0.5)

            async def ask(image: bytes) -> list[str]:
                return [hit.id for hit in (await client.search(image, limit=HITS)).hits]

            yield ask


@contextlib.asynccontextmanager
async def _started(rival: Rival, gallery: Gallery, triton: str) -> AsyncGenerator[Ask]:
    """The rival's server, once it answers."""
    port = free_port()
    command = [*_command(rival.environment, rival.program, gallery), "--hint", rival.hint]
    command += ["--port", str(port), "--address", triton]
    with running(command, gallery.folder / f"{rival.program}.log") as process:
        async with Poster(port, "/search", rival.form_field) as poster:

            async def ask(image: bytes) -> list[str]:
                return [hit["id"] for hit in (await poster.post(image))["hits"]]

            await until_it_answers(process, lambda: ask(gallery.images[0]))
            yield ask


def _command(environment: str, program: str, gallery: Gallery) -> list[str]:
    network = default_repository() / MODEL / "1" / "model.onnx"
    files = ["--model", str(network.absolute()), "--vectors", str(gallery.folder / "vectors.npy")]
    return [str(python_of(environment)), str(PROGRAMS / program), *files]


def _bare(gallery: Gallery) -> ByImage:
    ran = subprocess.run(_command("fastapi", "bare.py", gallery), capture_output=True, text=True, check=True)
    result = json.loads(ran.stdout)
    return ByImage(result["alone_ms"], [result["rate"]])


async def _measure(measured: ByImage, ask: Ask, gallery: Gallery, steady: float) -> None:
    for image in gallery.images:
        hits = await ask(image)
        assert len(set(hits)) == HITS, hits
    turn = cycle(gallery.images)
    measured.alone_ms += [await timed(lambda: ask(next(turn))) for _ in range(ALONE)]
    fullest: list[tuple[float, float]] = []
    for concurrency in CONCURRENCIES:
        with spending() as spent:
            rate = await load(lambda: ask(next(turn)), concurrency)
        fullest.append((rate, spent.core_ms_each(rate * spent.seconds)))
    rate, core_ms = max(fullest)
    measured.rates.append(rate)
    measured.full_core_ms.append(core_ms)
    with spending() as spent:
        times = await by_chance_ms(lambda: ask(next(turn)), steady, STEADY_S)
    measured.steady_ms += times
    measured.steady_core_ms.append(spent.core_ms_each(len(times)))


def _print(bare: ByImage, measured: dict[str, ByImage], steady: float) -> None:
    best = max(one.rate for name, one in measured.items() if name not in (THROUGH_TRITON, EMBEDDED))
    table = Table(title=f"search by image (500x375 JPEG) over {ITEMS:,} items, {HITS} hits, {ROUNDS} rounds")
    at_half = f"p99 at {steady:.0f}/s, ms"
    headings = ("p50 ms", "p99 ms", "searches/s", "of the best rival's", "core-ms", at_half, "core-ms", "foretold p99")
    table.add_column("")
    for heading in headings:
        table.add_column(heading, justify="right")
    for name, one in ({"the bare parts, no server": bare} | measured).items():
        p50, p99 = np.percentile(one.alone_ms, (50, 99))
        late = f"{np.percentile(one.steady_ms, 99):.1f}" if one.steady_ms else ""
        full, half = (f"{np.mean(of):.1f}" if of else "" for of in (one.full_core_ms, one.steady_core_ms))
        foretold = f"{p99_ms(float(np.mean(one.steady_core_ms)), steady, CORES):.0f}" if one.steady_core_ms else ""
        row = (f"{p50:.2f}", f"{p99:.2f}", f"{one.rate:.0f}", f"{one.rate / best:.2f}", full, late, half, foretold)
        table.add_row(name, *row)
    Console().print(table)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
