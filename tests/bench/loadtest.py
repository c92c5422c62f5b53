"""`make loadtest`: perf_analyzer on the served model and on whole searches, and a report with plots.

The searches use the sample gallery's own pictures, or those in a folder of yours.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rich.console import Console

from pspsearch.client import Client
from pspsearch.config import BundledTritonSettings
from pspsearch.model.repository import default_repository
from pspsearch.triton.process import BundledTriton
from tests.bench.loadtest_report import Run, print_tables, write_report
from tests.bench.perf_analyzer import Load, measure, write_images
from tests.servers.search_server import serve, wait_for_sample

MODEL = "pspnet"
COLLECTION = "sample"
CONCURRENCIES = (1, 2, 4, 8, 16, 32)
SHARES = (0.3, 0.5, 0.7, 0.8, 0.9)
"""The rates of the open loop, as shares of the closed loop's best rate."""


async def main(images: Path | None, report: Path) -> None:
    """Prints a table for each kind of load, and writes the report into the folder."""
    async with BundledTriton(BundledTritonSettings(default_repository())) as triton:
        triton.require(MODEL)
        runs = await asyncio.to_thread(_load_model, triton.address)
        runs += await asyncio.to_thread(_load_searches, triton.address, images)
    print_tables(runs, Console())
    print(f"\nwrote {write_report(runs, report)}")


def _load_model(address: str) -> list[Run]:
    ask = partial(measure, address, MODEL)
    in_request = _closed_loop("the bare model, pixels in the request", ask)
    return [in_request, *_both_loops("the bare model", partial(ask, shared_memory=True))]


def _load_searches(triton: str, folder: Path | None) -> list[Run]:
    """The whole path: an encoded image in, ten hits out."""
    with (
        tempfile.TemporaryDirectory() as data,
        serve(Path(data, "data"), triton, "--sample") as server,
        Client(server.address) as client,
    ):
        wait_for_sample(client)
        images = _sample_images(client) if folder is None else _images_in(folder)
        inputs = Path(data, "inputs.json")
        write_images(inputs, "IMAGE", images)
        return _both_loops("search by image", partial(measure, server.address, f"search.{COLLECTION}", inputs=inputs))


def _sample_images(client: Client) -> list[bytes]:
    return [client.get_image(item.id, collection=COLLECTION) for item in client.list(collection=COLLECTION)]


def _images_in(folder: Path) -> list[bytes]:
    images = [
        path.read_bytes() for path in sorted(folder.rglob("*")) if path.suffix.lower() in {".jpg", ".jpeg", ".png"}
    ]
    assert images, f"there is no JPEG or PNG in {folder}"
    return images


def _both_loops(name: str, ask: Callable[..., Load | None]) -> list[Run]:
    closed = _closed_loop(name, ask)
    best = max((load.per_s for load in closed.loads.values() if load), default=0.0)
    rates = [round(share * best) for share in SHARES]
    return [closed, Run(f"{name}, by chance", "asked/s", {rate: ask(rate=rate) for rate in rates})]


def _closed_loop(name: str, ask: Callable[..., Load | None]) -> Run:
    return Run(name, "under way", {number: ask(concurrency=number) for number in CONCURRENCIES})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="make loadtest")
    parser.add_argument("--images", type=Path, help="a folder of pictures to search for")
    parser.add_argument("--report", type=Path, default=Path(".bench/loadtest"), help="the folder for the report")
    asyncio.run(main(**vars(parser.parse_args())))
