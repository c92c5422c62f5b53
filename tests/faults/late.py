"""Triton's Python processes answer after Triton gave them up; Triton takes their answers for the next requests'."""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

import numpy as np
import psutil
from numpy.typing import NDArray
from PIL import Image

from pspsearch.client import AsyncClient, ItemInput
from pspsearch.config import BundledTritonSettings
from pspsearch.errors import NotFound, PspsearchError
from pspsearch.triton.process import BundledTriton
from tests.faults.place import MODEL, ONCE, Place
from tests.faults.triton import INSTANCES, TARGETS, children_of
from tests.pictures import encode
from tests.servers.search_server import serve

PICTURES, CALLERS, WRITERS = 40, 8, 2
SHORT_S, ANY_S = (0.2, 0.3, 0.4), (0.2, 0.5, 1.0, 2.0, 3.0)
"""Deadlines. The first ones pass before Triton gives up a process, so that no caller hears of it."""
UNHEARD, LEAVING = 0.7, 0.2
"""The share of rounds in which no caller may hear of it, and of callers who leave before their deadlines."""
OUTCOMES = 30
"""How many calls must end, in an answer or a refusal, after the processes continue."""
SAME_COSINE = 0.999

Put = dict[str, int]
"""The picture that was sent for each item."""


@dataclass
class _Callers:
    """Callers that ask about different pictures, and compare every answer with the one they got in peace."""

    clients: dict[float, AsyncClient]
    """The clients by their deadlines."""
    images: list[bytes]
    expected: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    answers: int = 0
    stored: int = 0
    wrong: int = 0
    refused: Counter[str] = field(default_factory=Counter[str])
    outcomes: int = 0

    async def learn(self) -> None:
        """Asks for each picture's descriptor before anything goes wrong."""
        client = self.clients[max(self.clients)]
        told = [(await client.describe(image)).descriptor.values for image in self.images]
        self.expected = np.asarray(told, np.float32)
        others = (self.expected @ self.expected.T)[~np.eye(len(told), dtype=bool)]
        assert others.max() < SAME_COSINE - 0.01, "the pictures are too much alike to be told apart"

    def compare(self, picture: int, descriptor: NDArray[np.float32]) -> None:
        """Counts the answer as wrong if it belongs to another picture."""
        if self.expected[picture] @ descriptor < SAME_COSINE:
            self.wrong += 1

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits for the condition, up to a minute."""
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.01)

    async def until_answered(self) -> None:
        """Returns when a call has its answer that may have begun after this one."""
        answers = self.answers
        await self.until(lambda: self.answers > answers + CALLERS)

    async def ask(self, chance: random.Random, deadlines: tuple[float, ...], until: asyncio.Event) -> None:
        """Asks one call after the other; cancels some."""
        while not until.is_set():
            picture = chance.randrange(PICTURES)
            async with self._outcome():
                async with asyncio.timeout(chance.random() if chance.random() < LEAVING else None):
                    description = await self.clients[chance.choice(deadlines)].describe(self.images[picture])
                self.answers += 1
                self.compare(picture, np.asarray(description.descriptor.values))

    async def put(self, chance: random.Random, name: str, put: Put, until: asyncio.Event) -> None:
        """Inserts new items, one after the other; `read_back` then shows which refused ones exist."""
        number = 0
        while not until.is_set():
            number += 1
            id_ = f"{name}/{number}"
            put[id_] = picture = chance.randrange(PICTURES)
            async with self._outcome():
                async with asyncio.timeout(chance.random() if chance.random() < LEAVING else None):
                    await self.clients[chance.choice(ANY_S)].upsert([ItemInput(id_, self.images[picture])])

    async def read_back(self, put: Put) -> None:
        """Checks that every stored item has the descriptor of the picture that was sent."""
        client = self.clients[max(self.clients)]
        for id_, picture in put.items():
            with contextlib.suppress(NotFound):
                item = await client.get(id_, descriptor=True)
                if item.descriptor is not None:
                    self.stored += 1
                    self.compare(picture, np.asarray(item.descriptor.values))

    @contextlib.asynccontextmanager
    async def _outcome(self) -> AsyncGenerator[None]:
        try:
            yield
        except PspsearchError as error:
            self.refused[type(error).__name__] += 1
            await asyncio.sleep(0.02)
        except TimeoutError:
            self.refused["left"] += 1
        self.outcomes += 1


async def answers(place: Place, rounds: int) -> str:
    """Both processes stop and continue after one to two seconds, under calls with deadlines from 0.2 to 3 s.

    Half of the rounds use somebody else's Triton, which is restarted only after its answers are compared.
    """
    own, others = await asyncio.gather(_bundled(place, rounds - rounds // 2), _others(place, rounds // 2))
    return f"bundled Triton: {own}; another's: {others}"


async def _bundled(place: Place, rounds: int) -> str:
    flags = ("--repository", str(place.repository), "--model", MODEL)
    with serve(place.new_folder("late-bundled"), "", *flags) as server:
        async with _callers(server.address) as callers:
            return await _try(callers, rounds, lambda: server.process.pid, lambda: None)


async def _others(place: Place, rounds: int) -> str:
    async with BundledTriton(BundledTritonSettings(place.repository)) as triton:
        with serve(place.new_folder("late-others"), triton.address, "--model", MODEL) as server:
            async with _callers(server.address) as callers:
                return await _try(callers, rounds, lambda: triton.pid, triton.start_again)


async def _try(callers: _Callers, rounds: int, root: Callable[[], int], start_again: Callable[[], None]) -> str:
    """`root` is the process from which Triton's Python processes descend."""
    chance = random.Random(rounds)
    for _ in range(rounds):
        await callers.until(lambda: len(list(children_of(root(), TARGETS[1]))) == INSTANCES)
        put: Put = {}
        await _stop_once(callers, chance, list(children_of(root(), TARGETS[1])), put, start_again)
        await callers.read_back(put)
    counted = f"{rounds} rounds, {callers.answers} answers and {callers.stored} items, {callers.wrong} wrong"
    assert not callers.wrong, counted
    return f"{counted}; otherwise {dict(callers.refused)}"


async def _stop_once(
    callers: _Callers, chance: random.Random, asleep: list[psutil.Process], put: Put, start_again: Callable[[], None]
) -> None:
    before, until = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for _ in range(CALLERS // 2):
            group.create_task(callers.ask(chance, SHORT_S if chance.random() < UNHEARD else ANY_S, before))
        await callers.until_answered()
        for process in asleep:
            process.suspend()
        await asyncio.sleep(max(SHORT_S))
        before.set()
        for _ in range(CALLERS):
            group.create_task(callers.ask(chance, ANY_S, until))
        for writer in range(WRITERS):
            group.create_task(callers.put(chance, f"{time.monotonic_ns()}/{writer}", put, until))
        await asyncio.sleep(chance.uniform(1.0, 2.0) - max(SHORT_S))
        for process in asleep:
            with contextlib.suppress(psutil.NoSuchProcess):  # it may have been restarted already
                process.resume()
        enough = callers.outcomes + OUTCOMES
        await callers.until(lambda: callers.outcomes >= enough)
        start_again()
        await callers.until_answered()
        until.set()


@contextlib.asynccontextmanager
async def _callers(address: str) -> AsyncGenerator[_Callers]:
    chance = np.random.default_rng(0)
    lines = chance.integers(0, 256, (PICTURES, 32, 1, 3), np.uint8)
    images = [encode(Image.fromarray(np.repeat(one, 32, axis=1)), "PNG") for one in lines]
    async with contextlib.AsyncExitStack() as stack:
        clients = {
            deadline_s: await stack.enter_async_context(AsyncClient(address, retries=ONCE, timeout_s=deadline_s))
            for deadline_s in {*SHORT_S, *ANY_S, 10.0}
        }
        callers = _Callers(clients, images)
        await callers.learn()
        yield callers
