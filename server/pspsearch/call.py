"""One call under way: how long it may take, and where its time goes."""

import contextlib
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import cast

from pspsearch import traces
from pspsearch.domain import Urgency
from pspsearch.errors import DeadlineExceeded


class Stage(StrEnum):
    """What a call's time is spent on."""

    DECODE = "decode"
    QUEUE = "queue"
    INFERENCE = "inference"
    SEARCH = "search"


@dataclass(slots=True)
class Call:
    """What every part that works on a call must know about it."""

    timeout_s: float | None = None
    """How long the call may take from `started` on, in seconds; None for ever."""
    request_id: str = ""
    """Names the call in logs and errors."""
    caller: str = ""
    """Who calls, as far as that is known; the same from call to call."""
    version: int | None = None
    """The only model version that may answer; None if any may."""
    urgency: Urgency = Urgency.SEARCH
    facts: dict[str, object] = field(default_factory=dict[str, object])
    """What the audit log should tell of the call."""
    started: float = field(default_factory=time.perf_counter)
    stages_ms: dict[Stage, float] = field(default_factory=lambda: dict.fromkeys(Stage, 0.0))

    def count(self, fact: str) -> None:
        """Adds one to a fact that is a number."""
        self.facts[fact] = cast(int, self.facts.get(fact, 0)) + 1

    @contextlib.contextmanager
    def stage(self, stage: Stage) -> Generator[None]:
        """Adds the time of the block to the stage; stages of one call must not overlap."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, begun, time.perf_counter())

    def add(self, stage: Stage, begun: float, ended: float) -> None:
        """Adds time that was measured elsewhere, between two moments of `time.perf_counter`."""
        self.stages_ms[stage] += 1000 * (ended - begun)
        traces.note(stage.value, begun, ended)

    def beside(self) -> "Call":
        """Returns a call for work at the same time, with the same deadline, whose stages do not count here."""
        return Call(
            self.timeout_s, self.request_id, self.caller, self.version, urgency=self.urgency, started=self.started
        )

    def within(self) -> "Call":
        """Returns a call for one request of a stream, with the same caller, a clock of its own and no deadline yet."""
        return Call(request_id=self.request_id, caller=self.caller)

    def begin(self, timeout_s: float | None) -> None:
        """Starts the clock now, with so much time left, because the call had to wait for its turn."""
        self.started, self.timeout_s = time.perf_counter(), timeout_s

    def elapsed_s(self) -> float:
        """Seconds since `started`."""
        return time.perf_counter() - self.started

    def remaining_s(self) -> float | None:
        """Seconds until the deadline; None if there is none, DeadlineExceeded if it has passed."""
        if self.timeout_s is None:
            return None
        remaining = self.timeout_s - self.elapsed_s()
        if remaining <= 0:
            raise DeadlineExceeded("the deadline passed before there was an answer")
        return remaining
