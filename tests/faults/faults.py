"""The faults that are tried."""

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.faults import (
    attacks,
    calls,
    copies,
    crowd,
    damage,
    excess,
    filters,
    fuzz,
    killed,
    late,
    load,
    recall,
    rollouts,
    schemas,
    storage,
    triton,
    unread,
)
from tests.faults.place import Place


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault, and the check of what must hold then; an assertion fails if it does not."""

    name: str
    check: Callable[[Place, int], Awaitable[str]]
    """Tries the fault so many times, or seconds, and says what it counted."""
    few: int
    """How many times in every run of the tests; 0 if only many tell anything."""
    many: int
    """How many times in `make faults`."""


def _embedded(check: Callable[[Place, int], Awaitable[str]]) -> Callable[[Place, int], Awaitable[str]]:
    """The same check of servers that run the model themselves."""

    async def check_there(place: Place, times: int) -> str:
        return await check(place.embedded(f"embedded-{check.__name__}"), times)

    return check_there


SOAK_S = int(os.environ.get("SOAK_S", "1800"))

FAULTS = [
    Fault("kill -9 during ingest", killed.during_ingest, 1, 200),
    Fault("kill -9 during replacing and deleting", killed.during_changes, 2, 200),
    Fault("power loss", storage.lost, 2, 50),
    Fault("a damaged catalog or index", damage.damaged, 30, 1000),
    Fault("a disk that is full", storage.full, 3, 60),
    Fault("a disk that takes no writes", storage.readonly, 1, 20),
    Fault("a disk that cannot sync", storage.failed, 1, 20),
    Fault("a bound on memory", load.memory, 0, 600),
    Fault("kill -9 during merges and snapshots", killed.during_upkeep, 1, 50),
    Fault("kill -9 during backups", killed.during_backup, 2, 50),
    Fault("kill -9 during rollouts", rollouts.server_killed, 1, 50),
    Fault("kill -9 during rollouts, with the model inside", rollouts.embedded_killed, 1, 50),
    Fault("kill -9 of Triton during rollouts", rollouts.triton_killed, 0, 20),
    Fault("backup under load, and restore", copies.backup, 1, 10),
    Fault("data of other schema versions", schemas.earlier, 1, 1),
    Fault("recall after restarts, deletions and insertions", recall.kept, 0, 20),
    Fault("clients that read what they wrote", calls.history, 1_000, 200_000),
    Fault("the same request again", calls.same_request, 10, 10),
    Fault("kill -9 of Triton or its Python process", triton.killed, 2, 50),
    Fault("Triton stands still", triton.stopped, 2, 30),
    Fault("Python processes of Triton that answer too late", late.answers, 2, 200),
    Fault("cancelled calls", calls.cancelled, 500, 10_000),
    Fault("cancelled calls, with the model inside", _embedded(calls.cancelled), 200, 10_000),
    Fault("five times more than it can answer", load.overload, 0, 300),
    Fault("SIGTERM under load", killed.by_sigterm, 1, 100),
    Fault(
        "SIGTERM while images are described, with the model inside",
        _embedded(killed.by_sigterm_while_describing),
        1,
        100,
    ),
    Fault("the same for a long time", load.soak, 2, SOAK_S),
    Fault("filters that are to stop others", filters.hostile, 2, 100),
    Fault("callers that are slow, many, or too much", crowd.crowds, 0, 10),
    Fault("mutated pictures", fuzz.pictures, 1_000, 1_000_000),
    Fault("pictures that say they are huge", fuzz.bombs, 5, 1_000),
    Fault("requests filled with anything", fuzz.requests, 1_000, 100_000),
    Fault("requests filled with anything, with the model inside", _embedded(fuzz.requests), 500, 100_000),
    Fault("requests that hold too much", excess.fields, 0, 1),
    Fault("answers that nobody takes", unread.streams, 0, 3),
    Fault("a model repository that was tampered with", attacks.repository, 1, 10),
]
