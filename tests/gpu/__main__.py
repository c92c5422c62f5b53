"""`tests/gpu/run`: what only a machine with a GPU can show, as one table; exits with 1 if a check fails."""

import asyncio
import importlib.metadata
import sys
import tempfile
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from pspsearch.config import BundledTritonSettings
from pspsearch.index.candidates.gpu import find_device
from pspsearch.index.memory import Device
from pspsearch.triton.process import BundledTriton
from tests.gpu import index, model, service
from tests.gpu.rows import Row


async def main() -> int:
    """Runs the checks and prints as it goes, so that a check that dies does not lose the others' results."""
    if find_device() is not Device.GPU or not torch.cuda.is_available():
        print("there is no GPU that both FAISS and PyTorch can use: nothing was checked", file=sys.stderr)
        return 2
    rows: list[Row] = []

    def note(row: Row) -> None:
        rows.append(row)
        print("." if row.passed else f"MISSED {row}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as folder:
        repository = model.make_repository(Path(folder) / "models")
        async with BundledTriton(BundledTritonSettings(repository)) as triton:
            for name in (model.MODEL, model.ON_CPU):
                triton.require(name)
            async for row in model.check(triton.address):
                note(row)
            async for row in service.check(triton.address, Path(folder) / "data"):
                note(row)
        for row in index.check():
            note(row)
    _print(rows)
    return 0 if all(row.passed for row in rows) else 1


def _print(rows: list[Row]) -> None:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("faiss-gpu", "torch"))
    table = Table(title=f"{torch.cuda.get_device_name()}, {versions}")
    for heading in ("", "found", "wanted", ""):
        table.add_column(heading)
    for row in rows:
        table.add_row(row.what, row.found, row.wanted, "" if row.passed else "MISSED")
    Console().print(table)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
