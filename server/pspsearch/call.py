"""One call under way: how long it may take, and where its time goes."""

import contextlib
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import cast

from pspsearch import traces
from pspsearch.errors import DeadlineExceeded


class Stage(StrEnum):
    """What a call's time is spent on."""

    DECODE = "decode"
    QUEUE = "queue"
    INFERENCE = "inference"
    SEARCH = "search"


@dataclass(slots=True)
class Call:
    """Carried through everything that works for one call."""

    timeout_s: float | None = None
    """From `started` on; None waits for ever."""
    request_id: str = ""
    """Names the call in logs and errors."""
    caller: str = ""
    """Who calls, as far as that can be told; the same from call to call."""
    version: int | None = None
    """The only model version that may answer; None for whichever does."""
    facts: dict[str, object] = field(default_factory=dict[str, object])
    """What a log of what was done should tell of it."""
    started: float = field(default_factory=time.perf_counter)
    stages_ms: dict[Stage, float] = field(default_factory=lambda: dict.fromkeys(Stage, 0.0))

    def count(self, fact: str) -> None:
        """One more, for a fact that is a number."""
        self.facts[fact] = cast(int, self.facts.get(fact, 0)) + 1

    @contextlib.contextmanager
    def stage(self, stage: Stage) -> Generator[None]:
        """Counts the time of the block; stages of one call follow one another."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, begun, time.perf_counter())

    def add(self, stage: Stage, begun: float, ended: float) -> None:
        """Counts time that was measured elsewhere."""
        self.stages_ms[stage] += 1000 * (ended - begun)
        traces.note(stage.value, begun, ended)

    def beside(self) -> "Call":
        """For work at the same time: with the same deadline, and with stages of its own that do not count."""
        return Call(self.timeout_s, self.request_id, self.caller, self.version, started=self.started)

    def within(self) -> "Call":
        """For one of many in a stream: of the same caller, with a clock of its own, and no deadline yet."""
        return Call(request_id=self.request_id, caller=self.caller)

    def begin(self, timeout_s: float | None) -> None:
        """Its clock starts now, with so much time left: it had to wait for its turn."""
        self.started, self.timeout_s = time.perf_counter(), timeout_s

    def elapsed_s(self) -> float:
        """Since the call arrived."""
        return time.perf_counter() - self.started

    def remaining_s(self) -> float | None:
        """Until the deadline; DeadlineExceeded where it has passed, None where there is none."""
        if self.timeout_s is None:
            return None
        remaining = self.timeout_s - self.elapsed_s()
        if remaining <= 0:
            raise DeadlineExceeded("the deadline passed before there was an answer")
        return remaining
