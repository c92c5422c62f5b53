"""Where faults are tried: a Triton with a small network, and servers in their own processes that may be killed."""

import asyncio
import contextlib
import random
import time
import zlib
from collections.abc import AsyncGenerator, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from pspsearch.client import AsyncClient, Descriptor, ItemInput, Retries
from pspsearch.config import BundledTritonSettings
from pspsearch.triton.process import BundledTriton
from pspsearch_build.publish import Publication, publish
from tests.build.colour_network import write_colour_network
from tests.servers.search_server import SearchServer, serve

MODEL = "colour"
DIMENSION = 128
CALLERS, IDS_EACH, MOST_AT_ONCE = 6, 25, 4
EMBEDDED = ("--runtime", "embedded")
ONCE = Retries(attempts=1)
"""No retries, so that tests see what a fault does to a call."""


@dataclass(frozen=True, slots=True)
class Place:
    """The place that all faults share; each makes its own folders in it."""

    folder: Path
    triton: str
    """Triton's address."""
    timed: bool = False
    """Whether times are judged; not in the tests, where a busy machine would decide."""
    flags: Sequence[str] = ()
    """Further flags of every server here."""
    _servers: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _shared: list[SearchServer] = field(default_factory=list[SearchServer])

    @contextlib.contextmanager
    def serve(self, data: Path, *flags: str, program: Sequence[str] = ("-m", "pspsearch")) -> Generator[SearchServer]:
        """A server of that data."""
        with serve(data, self.triton, "--model", MODEL, *self.flags, *flags, program=program) as server:
            yield server

    async def check(self, data: Path, ledger: "Ledger") -> None:
        """Starts a server on the data, and checks it against the ledger."""
        with self.serve(data) as server:
            async with AsyncClient(server.address, retries=ONCE) as client:
                await check_server(client, ledger)

    def embedded(self, name: str) -> "Place":
        """A place inside this one, whose servers run the model themselves."""
        flags = (*EMBEDDED, "--repository", str(self.repository))
        return replace(self, folder=self.new_folder(name), triton="", flags=flags, _shared=[])

    def shared(self) -> SearchServer:
        """A server for all faults that leave it unchanged; its default collection is shared."""
        if not self._shared:
            self._shared.append(self._servers.enter_context(self.serve(self.new_folder("shared"))))
        return self._shared[0]

    def within(self, taken_s: float, bound_s: float, what: str) -> None:
        """If times are judged, asserts that this one is within its bound."""
        assert not self.timed or taken_s < bound_s, f"{what} took {taken_s:.2f} s"

    def new_folder(self, name: str) -> Path:
        """Makes an empty folder."""
        path = self.folder / name
        path.mkdir()
        return path

    @property
    def repository(self) -> Path:
        """The repository with the only model."""
        return self.folder / "model_repository"


@contextlib.asynccontextmanager
async def open_place(folder: Path, *, timed: bool = False) -> AsyncGenerator[Place]:
    """Opens a place in an empty folder."""
    repository = folder / "model_repository"
    repository.mkdir()
    publish(Publication(write_colour_network(folder / "1.onnx", dimension=DIMENSION), repository, MODEL))
    async with BundledTriton(BundledTritonSettings(repository)) as triton:
        triton.require(MODEL)
        place = Place(folder, triton.address, timed)
        with place._servers:
            yield place


def point(id_: str, version: int) -> NDArray[np.float32]:
    """The descriptor of that version of the item."""
    numbers = np.random.default_rng(zlib.crc32(f"{id_} {version}".encode())).standard_normal(DIMENSION)
    return (numbers / np.linalg.norm(numbers)).astype(np.float32)


def item(id_: str, version: int, fingerprint: str) -> ItemInput:
    """An item to write."""
    return ItemInput(id_, Descriptor(point(id_, version), fingerprint), {"version": version})


async def fingerprint_of(client: AsyncClient) -> str:
    """The fingerprint of the collection's space."""
    return (await client.get_collection()).state.origin.fingerprint


async def become_idle(client: AsyncClient) -> float:
    """Waits until no call is under way; returns the seconds that it took."""
    started = time.perf_counter()
    while (await client.status()).requests_in_flight > 1:  # this call counts, too
        assert time.perf_counter() - started < 5, "calls are left over"
        await asyncio.sleep(0.01)
    return time.perf_counter() - started


@dataclass
class Ledger:
    """What the catalog may hold: for each id, the version acknowledged last or one sent since."""

    acknowledged: dict[str, int] = field(default_factory=dict[str, int])
    doubtful: dict[str, list[int | None]] = field(default_factory=dict[str, list[int | None]])
    """Versions sent but not acknowledged; None for a deletion."""
    writes: int = 0
    """How many writes are acknowledged."""
    _awaited: list[tuple[int, asyncio.Event]] = field(default_factory=list[tuple[int, asyncio.Event]])

    def send(self, id_: str, version: int | None) -> None:
        """Call it before the write; an id has only one write under way."""
        self.doubtful.setdefault(id_, []).append(version)

    def acknowledge(self, id_: str) -> None:
        """Records that the version sent last is now stored."""
        version = self.doubtful.pop(id_)[-1]
        self.writes += 1
        self.acknowledged.pop(id_, None)
        if version is not None:
            self.acknowledged[id_] = version
        for writes, come in self._awaited:
            if self.writes >= writes:
                come.set()

    async def grow(self, writes: int, working: "asyncio.Task[None]") -> None:
        """Waits until so many more writes are acknowledged; fails if the work ends first."""
        come = asyncio.Event()
        self._awaited.append((self.writes + writes, come))
        waiting = asyncio.create_task(come.wait())
        await asyncio.wait((waiting, working), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        self._awaited.pop()
        assert come.is_set(), f"the work ended: {working.exception()!r}"

    def check(self, found: Mapping[str, int]) -> None:
        """Asserts that no acknowledged write is lost or stale, and that nothing deleted or never sent exists."""
        wrong = {
            id_: (found.get(id_), self.acknowledged.get(id_), self.doubtful.get(id_))
            for id_ in self.acknowledged.keys() | self.doubtful.keys() | found.keys()
            if found.get(id_) not in (self.acknowledged.get(id_), *self.doubtful.get(id_, ()))
        }
        assert wrong == {}, f"of {len(wrong)} items, found, acknowledged and sent: {dict(list(wrong.items())[:5])}"

    def settle(self, found: Mapping[str, int]) -> None:
        """Records what was found, which settles every doubt."""
        self.acknowledged = dict(found)
        self.doubtful.clear()


async def check_server(client: AsyncClient, ledger: Ledger) -> None:
    """Checks that catalog, index and ledger hold the same."""
    found = {one.id: int(one.attributes["version"]) async for one in client.list(page_size=1000)}
    ledger.check(found)
    assert await client.count() == len(found)
    fingerprint = await fingerprint_of(client)
    sample = sorted(found)[:: max(1, len(found) // 100)]
    if sample:
        queries = [Descriptor(point(id_, found[id_]), fingerprint) for id_ in sample]
        for start in range(0, len(queries), 100):
            answers = await client.search_batch(queries[start : start + 100], limit=1)
            for id_, hits in zip(sample[start : start + 100], answers.results, strict=True):
                assert not isinstance(hits, Exception), hits
                assert (hits[0].id, hits[0].score > 0.999) == (id_, True), f"{id_} is found as {hits[0]}"
    ledger.settle(found)


async def change(client: AsyncClient, ledger: Ledger, chance: random.Random, versions: Iterator[int]) -> None:
    """Inserts, replaces and deletes items by several callers with their own ids, until a call fails."""
    fingerprint = await fingerprint_of(client)

    async def go_on(caller: int) -> None:
        while True:
            names = [f"{caller}/{number}" for number in range(IDS_EACH)]
            ids = chance.sample(names, chance.randint(1, MOST_AT_ONCE))
            if chance.random() < 0.4:
                for id_ in ids:
                    ledger.send(id_, None)
                await client.delete(ids)
            else:
                sent = {id_: next(versions) for id_ in ids}
                for id_, version in sent.items():
                    ledger.send(id_, version)
                for one in await client.upsert([item(*one, fingerprint) for one in sent.items()]):
                    assert one.error is None
            for id_ in ids:
                ledger.acknowledge(id_)

    async with asyncio.TaskGroup() as group:
        for caller in range(CALLERS):
            group.create_task(go_on(caller))


def check_ended(ended: BaseException | None, kind: type[Exception]) -> None:
    """Asserts that errors of that kind, however deeply grouped, ended the work."""
    inner = cast("tuple[BaseException, ...]", getattr(ended, "exceptions", ()))
    for one in inner:
        check_ended(one, kind)
    assert inner or isinstance(ended, kind), repr(ended)
