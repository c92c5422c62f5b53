"""Runs `pspsearch serve` in a process of its own, for as long as a test or a benchmark needs it."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from pspsearch.app.sample import read_gallery
from pspsearch.client import Client

SAMPLE_S = 60.0
"""How long the sample gallery may take to be complete: ten times what it takes on two cores."""


@dataclass(frozen=True, slots=True)
class SearchServer:
    """The address of a server, and how long it took to start."""

    address: str
    ready_s: float
    process: "subprocess.Popen[str]"

    @property
    def memory_bytes(self) -> int:
        """The server's resident memory, including mapped files."""
        return psutil.Process(self.process.pid).memory_info().rss


class ServerEnded(Exception):
    """The server ended before it served; the message is what it printed."""


@contextlib.contextmanager
def serve(
    data: Path, triton: str, *flags: str, program: Sequence[str] = ("-m", "pspsearch")
) -> Generator[SearchServer]:
    """Starts a server, yields it when it serves, and stops it as an operator would."""
    command = _command(data, triton, flags, program)
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if line.startswith("pspsearch serves at "):
                address = line.removeprefix("pspsearch serves at ").partition(";")[0]
                yield SearchServer(address, time.perf_counter() - started, process)
                break
        else:
            raise ServerEnded(f"the server ended with code {process.wait()}")
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def wait_for_sample(client: Client) -> None:
    """Waits until the whole gallery is there; the server answers while it puts it in."""
    whole, ends = len(read_gallery()), time.monotonic() + SAMPLE_S
    while (there := client.count(collection="sample")) < whole:
        assert time.monotonic() < ends, f"only {there} of {whole} pictures are there"
        time.sleep(0.05)


def why_refused(data: Path, triton: str, *flags: str, program: Sequence[str] = ("-m", "pspsearch")) -> str:
    """What a server that must not start prints at the end."""
    command = _command(data, triton, flags, program)
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    last = refused.stderr.splitlines()[-1]
    assert (refused.returncode, last.startswith("error: ")) == (1, True), refused.stderr
    return last


def _command(data: Path, triton: str, flags: Sequence[str], program: Sequence[str]) -> list[str]:
    command = [sys.executable, *program, "serve", "--port", "0", "--metrics-port", "0"]
    return [*command, "--data", str(data), "--triton", triton, "--log-level", "warning", *flags]
