"""Rollouts under kill -9 of the server, and of Triton."""

import asyncio
import contextlib
import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psutil

from pspsearch.client import Client, ItemInput
from pspsearch.config import BundledTritonSettings
from pspsearch.domain import Descriptors, RolloutStage
from pspsearch.errors import PspsearchError
from pspsearch.triton.process import BundledTriton
from pspsearch_build.publish import Publication, publish
from tests.build.colour_network import write_colour_network
from tests.e2e.test_rollout import PICTURES, SCORE_TOLERANCE, reference
from tests.faults.place import EMBEDDED, Place
from tests.servers.search_server import SearchServer, serve

FLAGS = ("--model", "colour", "--gate-overlap", "0.0", "--gate-slowdown", "100")
IDS = 120
MOST_CALLS = 60
"""The most acknowledged calls until a kill."""
HANGS_S = 120


@dataclass
class Ledger:
    """What was acknowledged: the picture of every id, or None if it was deleted."""

    pictures: dict[str, int | None] = field(default_factory=dict[str, int | None])
    doubtful: dict[str, set[int | None]] = field(default_factory=dict[str, set[int | None]])
    """For ids whose last write was not acknowledged, the pictures that they may have."""

    def write(self, client: Client, chance: random.Random) -> None:
        """Makes a few writes in one call; if it raises, its ids are in doubt."""
        ids = chance.sample(range(IDS), 4)
        wanted: dict[str, int | None] = {str(id_): chance.randrange(len(PICTURES)) for id_ in ids}
        if chance.random() < 0.3:
            wanted = dict.fromkeys(wanted)
        for id_, picture in wanted.items():
            known = self.doubtful.get(id_) or {self.pictures.get(id_)}
            self.doubtful[id_] = {*known, picture}
        if None in wanted.values():
            client.delete([*wanted])
        else:
            inputs = [ItemInput(id_, PICTURES[number]) for id_, number in wanted.items() if number is not None]
            assert all(given.error is None for given in client.upsert(inputs))
        for id_, picture in wanted.items():
            self.pictures[id_] = picture
            del self.doubtful[id_]

    def settle(self, client: Client) -> None:
        """Repeats the writes in doubt, so that they are certain."""
        for id_ in [*self.doubtful]:
            client.upsert([ItemInput(id_, PICTURES[0])])
            self.pictures[id_] = 0
            del self.doubtful[id_]

    def check(self, client: Client, spaces: dict[str, Descriptors]) -> None:
        """Checks that every item has its picture's score in the one space that answers, and that no other exists."""
        answer = client.search_batch(PICTURES, limit=1000)
        space = spaces[answer.origin.fingerprint]
        certain = {id_: picture for id_, picture in self.pictures.items() if id_ not in self.doubtful}
        for number, hits in enumerate(answer.results):
            assert not isinstance(hits, Exception), hits
            scores = {hit.id: hit.score for hit in hits}
            for id_, picture in certain.items():
                if picture is None:
                    assert id_ not in scores
                else:
                    assert abs(scores[id_] - float(space[picture] @ space[number])) < SCORE_TOLERANCE, (id_, number)
            for id_ in scores.keys() - certain.keys():
                may = [float(space[one] @ space[number]) for one in self.doubtful[id_] if one is not None]
                assert min(abs(scores[id_] - score) for score in may) < SCORE_TOLERANCE


class Writer:
    """Writes without a pause while the context lasts and the server lives."""

    def __init__(self, address: str, ledger: Ledger, seed: int) -> None:
        self._stop = threading.Event()
        self._written = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, args=(address, ledger, random.Random(seed)))

    def _run(self, address: str, ledger: Ledger, chance: random.Random) -> None:
        with Client(address, timeout_s=5) as client:
            while not self._stop.is_set():
                with contextlib.suppress(PspsearchError):
                    ledger.write(client, chance)
                    self._written.release()

    def wait_for(self, calls: int) -> None:
        """Waits until so many more calls are acknowledged."""
        for _ in range(calls):
            assert self._written.acquire(timeout=HANGS_S), "nothing is acknowledged any more"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def begin(client: Client) -> None:
    """Starts a rollout to the version that does not answer yet, unless one is under way."""
    with contextlib.suppress(PspsearchError):
        active = client.get_collection().state.origin.model_version
        client.start_rollout(3 - active, automatic=True, share=0.5)


def finish(client: Client) -> None:
    """Finishes the rollout under way, if there is one; it must not fail."""
    with contextlib.suppress(PspsearchError):
        last = list(client.watch_rollout())[-1]
        assert last.stage is RolloutStage.PROMOTED, last.reason


def make_repository(folder: Path) -> Path:
    """A repository with two versions of one model."""
    repository = folder / "model_repository"
    repository.mkdir()
    for seed in (1, 2):
        network = write_colour_network(folder / f"{seed}.onnx", seed=seed)
        publish(Publication(network, repository, "colour"))
    return repository


def spaces_of(client: Client, folder: Path) -> dict[str, Descriptors]:
    """The pictures' descriptors, by fingerprint."""
    return {one.fingerprint: reference(folder / f"{one.version}.onnx") for one in client.list_model_versions("colour")}


async def server_killed(place: Place, times: int) -> str:
    """Kills the server at random moments of rollouts, during writes; no answer mixes two versions."""
    folder = place.new_folder("rollout-killed")
    repository = make_repository(folder)
    async with BundledTriton(BundledTritonSettings(repository)) as triton:
        return await asyncio.to_thread(_kill_servers, folder, triton.address, times)


async def embedded_killed(place: Place, times: int) -> str:
    """The same with the model in the server, which then dies with it."""
    folder = place.new_folder("rollout-embedded-killed")
    flags = (*EMBEDDED, "--repository", str(make_repository(folder)))
    return await asyncio.to_thread(_kill_servers, folder, "", times, *flags)


def _kill_servers(folder: Path, triton: str, times: int, *flags: str) -> str:
    ledger, chance, promoted = Ledger(), random.Random(0), set[int]()
    spaces: dict[str, Descriptors] = {}
    for number in range(times + 1):
        with serve(folder / "data", triton, *FLAGS, *flags) as server, Client(server.address) as client:
            spaces = spaces or spaces_of(client, folder)
            ledger.check(client, spaces)
            ledger.settle(client)
            promoted.add(client.get_collection().state.origin.model_version)
            if number == times:
                finish(client)
                ledger.check(client, spaces)
                with contextlib.suppress(PspsearchError):
                    client.rollback()
                    ledger.check(client, spaces)
                break
            begin(client)
            with Writer(server.address, ledger, number) as writer:
                writer.wait_for(chance.randint(1, MOST_CALLS))
                server.process.kill()
    assert promoted == {1, 2} or times < 10
    return f"{times} kills, {len(ledger.pictures)} ids written: none lost, none came back, one version in each answer"


async def triton_killed(place: Place, times: int) -> str:
    """Each rollout ends with a promotion, and the answers in between are right."""
    return await asyncio.to_thread(_kill_tritons, place.new_folder("rollout-triton-killed"), times)


def triton_of(server: SearchServer) -> psutil.Process:
    """The Triton that the server runs; waits for it."""
    for _ in range(200):
        for child in psutil.Process(server.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if child.name() == "tritonserver":
                    return child
        time.sleep(0.05)
    raise AssertionError("the server has no Triton")


def _kill_tritons(folder: Path, times: int) -> str:
    repository = make_repository(folder)
    ledger, chance = Ledger(), random.Random(1)
    flags = ("--repository", str(repository), *FLAGS)
    with serve(folder / "data", "", *flags) as server, Client(server.address) as client:
        spaces = spaces_of(client, folder)
        for number in range(times):
            begin(client)
            with Writer(server.address, ledger, number) as writer:
                writer.wait_for(chance.randint(1, MOST_CALLS))
                triton_of(server).kill()
                finish(client)
            for attempt in range(20):  # Triton may still be starting
                with contextlib.suppress(PspsearchError):
                    ledger.settle(client)
                    ledger.check(client, spaces)
                    break
                time.sleep(0.5)
                assert attempt < 19
        versions = {one.origin.model_version for one in client.list_generations()}
        assert len(versions) == min(2, times + 1)
    return f"{times} kills of Triton: every rollout was promoted, and no answer was of two versions"
