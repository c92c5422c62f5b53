"""Runs a rival's server as a process, and ends it with everything that it started."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path

import psutil

START_S = 1800.0
"""How long a rival may take to fill itself for the first time."""

Process = subprocess.Popen[bytes]


def free_port() -> int:
    """A port on loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running(command: list[str], log: Path) -> Generator[Process]:
    """Runs the command while the block runs, with its output in the log."""
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        yield process
    finally:
        _end(process)


async def until_it_answers(process: Process, ask: Callable[[], Awaitable[object]]) -> None:
    """Waits for an answer. Raises the last error if the process ends or takes too long."""
    end = time.monotonic() + START_S
    while True:
        try:
            await ask()
        except (OSError, EOFError, RuntimeError):
            if process.poll() is not None or time.monotonic() > end:
                raise
            await asyncio.sleep(0.5)
        else:
            return


def _end(process: Process) -> None:
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    _, alive = psutil.wait_procs(family, 15)
    for one in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    process.wait()
