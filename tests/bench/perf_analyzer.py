"""Fetches, runs and reads Triton's own load generator, without a container."""

import base64
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pspsearch.triton.bundle import Bundle

_FOLDER = Path(".bench/perf_analyzer")
# It comes in the wheels of tritonclient; this is the newest that runs on glibc 2.36.
_REQUIREMENT = "tritonclient==2.51.0 --hash=sha256:c485bb0123bdf310f90bc8b03d3489b28df2ffed55b30c7eee0b795b48113d52\n"
_LIBRARIES = {"libb64.so.0d": "libb64-*.so.0d", "libcudart.so.12": "libcudart-*.so.12*"}


_STAGES = {
    "Network+Server Send/Recv": "network",
    "Server Queue": "queue",
    "Server Compute Input": "input",
    "Server Compute Infer": "inference",
    "Server Compute Output": "output",
}


@dataclass(frozen=True, slots=True)
class Load:
    """What one run measured, in milliseconds and answers per second."""

    per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    stages_ms: dict[str, float]
    """The mean of each stage: the server's as it reports them, and the remainder as the client's."""


def fetch() -> Path:
    """The program, installed at the first call; the libraries that it lacks are in the Triton bundle."""
    program = _FOLDER / "bin" / "perf_analyzer"
    if not program.exists():
        install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--target", str(_FOLDER)]
        subprocess.run(
            [*install, "--no-deps", "--only-binary=:all:", "--require-hashes", "--requirement", "-"],
            input=_REQUIREMENT,
            text=True,
            check=True,
        )
        libraries = _FOLDER / "lib"
        libraries.mkdir(exist_ok=True)
        for name, pattern in _LIBRARIES.items():
            (bundled,) = Bundle.find().libraries.glob(pattern)
            shutil.copyfile(bundled, libraries / name)
    return program


def write_images(path: Path, tensor: str, images: Iterable[bytes]) -> None:
    """Writes its input file with one request per encoded image; BYTES start with their length."""
    contents = (base64.b64encode(len(image).to_bytes(4, "little") + image).decode() for image in images)
    path.write_text(json.dumps({"data": [{tensor: {"content": {"b64": one}, "shape": [1]}} for one in contents]}))


def measure(
    address: str,
    model: str,
    concurrency: int = 0,
    *,
    rate: float = 0,
    shared_memory: bool = False,
    inputs: Path | None = None,
) -> Load | None:
    """Closed loop: keeps `concurrency` requests under way. Open loop: sends `rate` a second at random moments.

    Each is the next of `inputs`, or one random image. None if no three windows were within 10 % of each other (25 % in
    the open loop, where chance alone does much): the machine is too noisy, or cannot follow the rate.
    """
    program = fetch()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.csv")
        command = [str(program), "-m", model, "-u", address, "-i", "grpc", "-f", str(report), "--async"]
        if rate:
            command += ["--request-rate-range", f"{rate:.1f}", "--request-distribution", "poisson"]
            command += ["--measurement-interval", "5000", "--stability-percentage", "25"]
        else:
            command += ["--concurrency-range", str(concurrency)]
            command += ["--measurement-interval", "3000", "--stability-percentage", "10"]
        command += ["--max-trials", "8"]
        if inputs is not None:
            command += ["--input-data", str(inputs)]
        if shared_memory:
            command += ["--shared-memory", "system", "--output-shared-memory-size", "4096"]
        environment = {**os.environ, "LD_LIBRARY_PATH": str(_FOLDER / "lib")}
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if "Failed to obtain stable measurement" in ran.stdout + ran.stderr:
            return None
        if not report.exists():
            raise RuntimeError(f"perf_analyzer failed: {ran.stdout[-2000:]} {ran.stderr[-2000:]}")
        (row,) = csv.DictReader(report.read_text().splitlines())
    return Load(
        float(row["Inferences/Second"]),
        *(float(row[f"p{percentile} latency"]) / 1000 for percentile in (50, 95, 99)),
        stages_ms={name: float(row[column]) / 1000 for column, name in _STAGES.items()},
    )
