"""Checks what belongs to no other room: the account, the packages for traces, open files and memory."""

import os
import resource
from collections.abc import Iterator

from pspsearch import traces
from pspsearch.config import LogSettings, Settings
from pspsearch.errors import PspsearchError
from pspsearch.findings import Finding, Grade
from pspsearch.memory import available_bytes

_LEAST_FILES = 1024


def examine_account() -> Iterator[Finding]:
    """Examines whether the account may do more than it should."""
    if os.geteuid() == 0:
        yield Finding("account", Grade.DOUBTFUL, "root, which the server does not need: use another account")


def examine_traces(settings: LogSettings) -> Iterator[Finding]:
    """Examines the packages that traces need, if traces are set."""
    if not settings.traces:
        return
    try:
        traces.check_packages()
    except PspsearchError as error:
        yield Finding("traces", Grade.BAD, str(error))
    else:
        yield Finding("traces", Grade.GOOD, f"go to {settings.traces}, which was not contacted")


def examine_limits(settings: Settings) -> Iterator[Finding]:
    """Examines how many files the process may open, and how much memory it may take."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _LEAST_FILES + settings.serving.max_calls
    if files != resource.RLIM_INFINITY and files < wanted:
        yield Finding("open files", Grade.DOUBTFUL, f"{files:,} at most: ulimit -n {wanted}")
    else:
        yield Finding("open files", Grade.GOOD, "no limit" if files == resource.RLIM_INFINITY else f"{files:,} at most")
    memory = available_bytes()
    wanted = max(settings.index.index_memory_bytes, settings.storage.memory_bytes)
    if wanted > memory:
        words = f"{wanted >> 20:,} MiB are set for it, more than the {memory >> 20:,} available: lower it"
        yield Finding("memory", Grade.BAD, words)
    else:
        yield Finding("memory", Grade.GOOD, f"{memory >> 20:,} MiB")
