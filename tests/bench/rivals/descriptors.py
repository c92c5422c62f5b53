"""`make rivals-million`: searches by descriptor among a million, beside embedded indexes behind a web server.

All have the same rows, search as widely as they must to find 95 of 100 true neighbours, and answer one client over the
network. Filling all of them for the first time takes half an hour.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from pspsearch.client import AsyncClient, Descriptor
from pspsearch.config import BundledTritonSettings
from pspsearch.domain import Descriptors
from pspsearch.model.repository import default_repository
from pspsearch.triton.process import BundledTriton
from tests.bench.bench_million import DIMENSION, HITS, MODEL, ROWS, data_for, put_in, truth
from tests.bench.bench_search import load, state_of, timed
from tests.bench.points import clustered
from tests.bench.rivals.environments import FOLDER, python_of
from tests.bench.rivals.http import Poster
from tests.bench.rivals.measured import Measured
from tests.bench.rivals.process import free_port, running, until_it_answers
from tests.servers.search_server import serve

Ask = Callable[[int], Awaitable[list[int]]]
"""From a query's number to the rows that are found."""

PROGRAM = Path(__file__).with_name("programs") / "descriptors.py"
ENGINES = {
    "FastAPI, hnswlib": ("hnswlib", "hnswlib"),
    "FastAPI, LanceDB, graph": ("lancedb", "lancegraph"),
    "FastAPI, LanceDB, lists": ("lancedb", "lancelists"),
    "FastAPI, Milvus Lite, graph": ("milvus", "milvusgraph"),
}
"""Each rival's environment and engine."""

TARGET = 0.95
BREADTHS = (10, 14, 20, 28, 40, 56, 80, 112, 160, 224, 320, 448, 640)
TUNED_BY, MEASURED_BY = 200, 500
FEWEST, PATIENCE_S = 20, 15.0
CONCURRENCIES = (8, 16, 32)
ROUNDS = 2


@dataclass(frozen=True, slots=True)
class Exam:
    """Queries and their right rows: some to choose a breadth with, others to measure with."""

    queries: Descriptors
    right: NDArray[np.int64]

    @classmethod
    def over(cls, points: Descriptors) -> "Exam":
        """An exam over these descriptors, with queries that are not among them."""
        queries = clustered(TUNED_BY + MEASURED_BY, DIMENSION, seed=2)
        return cls(queries, truth(points, queries))

    async def recall(self, ask: Ask, numbers: range) -> float:
        """The share of the right rows that are found."""
        shares = [len(set(await ask(n)) & set(self.right[n])) / HITS async for n in patiently(numbers)]
        return float(np.mean(shares))


async def patiently(numbers: range) -> AsyncGenerator[int]:
    """All numbers; if each takes long, only as many as there is time for."""
    end = time.perf_counter() + PATIENCE_S
    for asked, number in enumerate(numbers):
        if asked >= FEWEST and time.perf_counter() > end:
            return
        yield number


@dataclass(slots=True)
class ByDescriptor(Measured):
    """Measurements by descriptor, including the recall."""

    breadth: str = ""
    recall: float = 0.0


async def main() -> None:
    """Prints one row for each."""
    points = clustered(ROWS, DIMENSION, seed=1)
    exam = Exam.over(points)
    folder = (FOLDER / "million").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    vectors = folder / "vectors.npy"
    if not vectors.exists():
        await asyncio.to_thread(np.save, vectors, points)
    settings = BundledTritonSettings(default_repository())
    async with BundledTriton(settings) as triton:
        triton.require(MODEL)
        data = await data_for(triton.address)
        with serve(data, triton.address) as server:
            async with AsyncClient(server.address, timeout_s=120) as client:
                await put_in(client, points)
        del points
        measured = {"pspsearch": ByDescriptor(breadth="its own")} | {name: ByDescriptor() for name in ENGINES}
        for _ in range(ROUNDS):
            async with _pspsearch(data, triton.address, exam) as ask:
                await _measure(measured["pspsearch"], ask, exam)
            for name, (environment, engine) in ENGINES.items():
                async with _engine(environment, engine, vectors, exam) as ask_with:
                    await _measure_rival(measured[name], ask_with, exam)
    _print(measured)


@contextlib.asynccontextmanager
async def _pspsearch(data: Path, triton: str, exam: Exam) -> AsyncGenerator[Ask]:
    with serve(data, triton) as server:
        async with AsyncClient(server.address) as client:
            fingerprint = (await state_of(client)).origin.fingerprint
            queries = [Descriptor(query, fingerprint) for query in exam.queries]

            async def ask(number: int) -> list[int]:
                return [int(hit.id[1:]) for hit in (await client.search(queries[number], limit=HITS)).hits]

            yield ask


@contextlib.asynccontextmanager
async def _engine(environment: str, engine: str, vectors: Path, exam: Exam) -> AsyncGenerator[Callable[[int], Ask]]:
    """Yields a function that makes an `Ask` for a breadth."""
    port = free_port()
    command = [str(python_of(environment)), str(PROGRAM), "--engine", engine, "--vectors", str(vectors)]
    queries = [query.tobytes() for query in exam.queries]
    async with contextlib.AsyncExitStack() as stack:
        process = stack.enter_context(running([*command, "--port", str(port)], vectors.with_name(f"{engine}.log")))
        posters = {breadth: await stack.enter_async_context(Poster(port, f"/search/{breadth}")) for breadth in BREADTHS}

        def ask_with(breadth: int) -> Ask:
            async def ask(number: int) -> list[int]:
                return [hit["id"] for hit in (await posters[breadth].post(queries[number]))["hits"]]

            return ask

        await until_it_answers(process, lambda: ask_with(BREADTHS[0])(0))
        yield ask_with


async def _measure_rival(measured: ByDescriptor, ask_with: Callable[[int], Ask], exam: Exam) -> None:
    """Measures with the least breadth that reaches the target on other queries, or with the greatest."""
    if not measured.breadth:
        for breadth in BREADTHS:
            measured.breadth = str(breadth)
            if await exam.recall(ask_with(breadth), range(TUNED_BY)) >= TARGET:
                break
    await _measure(measured, ask_with(int(measured.breadth)), exam)


async def _measure(measured: ByDescriptor, ask: Ask, exam: Exam) -> None:
    numbers = range(TUNED_BY, TUNED_BY + MEASURED_BY)
    measured.recall = await exam.recall(ask, numbers)
    measured.alone_ms += [await timed(lambda number=number: ask(number)) async for number in patiently(numbers)]
    turn = iter(range(1 << 60))

    async def ask_next() -> object:
        return await ask(numbers[next(turn) % len(numbers)])

    measured.rates.append(max([await load(ask_next, n) for n in CONCURRENCIES]))


def _print(measured: dict[str, ByDescriptor]) -> None:
    ours = measured["pspsearch"].rate
    table = Table(title=f"search by descriptor over {ROWS:,} x {DIMENSION}, clustered, {HITS} hits, {ROUNDS} rounds")
    for heading in ("", "breadth", f"recall@{HITS}", "p50 ms", "p99 ms", "searches/s", "pspsearch over it"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, one in measured.items():
        p50, p99 = np.percentile(one.alone_ms, (50, 99))
        rate = one.rate
        table.add_row(
            name, one.breadth, f"{one.recall:.3f}", f"{p50:.2f}", f"{p99:.2f}", f"{rate:.0f}", f"{ours / rate:.2f}"
        )
    Console().print(table)


if __name__ == "__main__":
    asyncio.run(main())
