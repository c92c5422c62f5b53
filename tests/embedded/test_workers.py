"""The threads of the embedded runtime, around a network that does what a test says."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pytest

from pspsearch.domain import Urgency
from pspsearch.embedded import workers as module
from pspsearch.embedded.network import Answer, Network
from pspsearch.embedded.workers import Workers

SEARCH, WRITE, ROLLOUT = Urgency


@dataclass
class Watched:
    """A network that tells in which order images came to it, and on how many cores."""

    came: list[str] = field(default_factory=list[str])
    on_all_cores: list[bool] = field(default_factory=list[bool])
    may_answer: threading.Event = field(default_factory=threading.Event)

    def describe(self, prepare: Any, *, cells: bool, on_all_cores: bool) -> Answer:
        """The image says its own name."""
        del cells
        self.came.append(prepare(None))
        self.on_all_cores.append(on_all_cores)
        assert self.may_answer.wait(30)
        return np.zeros(1, np.float32), None


@pytest.fixture
def network() -> Watched:
    """Answers nobody yet."""
    return Watched()


@pytest.fixture
async def workers(monkeypatch: pytest.MonkeyPatch, network: Watched) -> AsyncIterator[Workers]:
    """A single thread."""

    def one_core(_: int) -> set[int]:
        return {0}

    monkeypatch.setattr(os, "sched_getaffinity", one_core)
    monkeypatch.setattr(module, "_PER_CORE", 1)
    workers = Workers()
    yield workers
    network.may_answer.set()
    await asyncio.to_thread(workers.close)


def submit(workers: Workers, network: Watched, name: str, urgency: Urgency = SEARCH) -> "asyncio.Future[Answer]":
    """An image with a name."""

    def say(_: Any) -> str:
        return name

    return workers.submit(cast(Network, network), cast(Any, say), cells=False, urgency=urgency)


async def occupy(workers: Workers, network: Watched) -> "asyncio.Future[Answer]":
    """Gives the thread an image, and waits until it has begun."""
    first = submit(workers, network, "first")
    while not network.came:
        await asyncio.sleep(0.001)
    return first


async def test_searches_pass_writes_and_both_pass_rollouts(workers: Workers, network: Watched) -> None:
    """Among equals, who came first is first."""
    first = await occupy(workers, network)
    order = (ROLLOUT, WRITE, SEARCH, WRITE, SEARCH)
    waiting = [submit(workers, network, f"{urgency.name} {n}", urgency) for n, urgency in enumerate(order)]
    network.may_answer.set()
    await asyncio.gather(first, *waiting)

    assert network.came == ["first", "SEARCH 2", "SEARCH 4", "WRITE 1", "WRITE 3", "ROLLOUT 0"]


async def test_nobody_waits_for_ever(workers: Workers, network: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has waited long enough goes before a search that comes now."""
    monkeypatch.setattr(module, "_LATER_S", 0.01)
    first = await occupy(workers, network)
    waiting = [submit(workers, network, "rollout", ROLLOUT), submit(workers, network, "write", WRITE)]
    await asyncio.sleep(0.05)
    waiting.append(submit(workers, network, "search"))
    network.may_answer.set()
    await asyncio.gather(first, *waiting)

    assert network.came == ["first", "write", "rollout", "search"]


async def test_a_lone_image_takes_all_cores_unless_two_were_there_lately(workers: Workers, network: Watched) -> None:
    """However soon the next one follows; and never one of a rollout."""
    network.may_answer.set()
    for _ in range(50):
        await submit(workers, network, "alone")
    assert network.on_all_cores == [True] * 50

    await submit(workers, network, "rollout", ROLLOUT)
    assert not network.on_all_cores[-1]

    await asyncio.gather(*(submit(workers, network, "together") for _ in range(3)))
    await submit(workers, network, "soon after")
    assert network.on_all_cores[-3:] == [False] * 3

    await asyncio.sleep(2 * module._CALM_S)
    await submit(workers, network, "long after")
    assert network.on_all_cores[-1]


async def test_what_was_submitted_is_answered_before_the_threads_end(workers: Workers, network: Watched) -> None:
    """Whatever its urgency."""
    waiting = [
        submit(workers, network, urgency.name, urgency) for urgency in (ROLLOUT, SEARCH, WRITE) for _ in range(3)
    ]
    closing = asyncio.create_task(asyncio.to_thread(workers.close))
    await asyncio.sleep(0.01)
    network.may_answer.set()
    await closing

    assert len(await asyncio.gather(*waiting)) == 9
