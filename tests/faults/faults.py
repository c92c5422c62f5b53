"""The faults that are tried, in the order of the table."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.faults import calls, copies, fuzz, killed, schemas, storage, triton
from tests.faults.place import Place


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that happens, and what must hold then; an assertion fails where it does not."""

    name: str
    check: Callable[[Place, int], Awaitable[str]]
    """Tries it so many times, or seconds, and says what it counted."""
    few: int
    """In every run of the tests."""
    many: int
    """In `make faults`."""


FAULTS = [
    Fault("kill -9 during ingest", killed.during_ingest, 3, 200),
    Fault("kill -9 during replacing and deleting", killed.during_changes, 3, 200),
    Fault("power loss", storage.lost, 3, 50),
    Fault("a disk that cannot sync", storage.failed, 2, 20),
    Fault("a disk that is full", storage.full, 3, 60),
    Fault("a disk that takes no writes", storage.readonly, 1, 20),
    Fault("SIGTERM under load", killed.by_sigterm, 2, 100),
    Fault("backup under load, and restore", copies.backup, 1, 10),
    Fault("data of other schema versions", schemas.earlier, 1, 1),
    Fault("clients that read what they wrote", calls.history, 5, 600),
    Fault("the same request again", calls.same_request, 10, 10),
    Fault("cancelled calls", calls.cancelled, 500, 10_000),
    Fault("kill -9 of Triton or its Python process", triton.killed, 2, 50),
    Fault("Triton stands still", triton.stopped, 2, 30),
    Fault("mutated pictures", fuzz.pictures, 10_000, 1_000_000),
    Fault("pictures that say they are huge", fuzz.bombs, 20, 1_000),
    Fault("requests filled with anything", fuzz.requests, 2_000, 100_000),
]
