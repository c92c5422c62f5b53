"""`make faults`: everything that can go wrong, many times, with one line each. Names of faults select among them."""

import asyncio
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.faults.faults import FAULTS
from tests.faults.place import open_place


async def main(names: list[str]) -> int:
    """Runs the faults; returns how many failed."""
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        async with open_place(Path(folder), timed=True) as place:
            for fault in FAULTS:
                if names and not any(name in fault.name for name in names):
                    continue
                started = time.perf_counter()
                try:
                    found = f"passed: {await fault.check(place, fault.many)}"
                except Exception as error:  # the next ones must run all the same
                    failed += 1
                    traceback.print_exc()
                    found = f"FAILED: {error}"
                print(f"{fault.name} ({time.perf_counter() - started:.0f} s) {found}", flush=True)
    return failed


sys.exit(min(1, asyncio.run(main(sys.argv[1:]))))
