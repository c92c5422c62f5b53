"""`pspsearch describe`: prints the descriptors of images, one JSON line each."""

import asyncio
import itertools
import json
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray

from pspsearch.cli.box import box_option
from pspsearch.cli.interrupt import run_until_signal
from pspsearch.config import BundledTritonSettings
from pspsearch.domain import Inputs
from pspsearch.errors import InvalidRequest, ModelMismatch
from pspsearch.images.box import Box
from pspsearch.images.pixels import decode_pixels
from pspsearch.model.contract import Takes
from pspsearch.model.repository import default_repository

if TYPE_CHECKING:
    from pspsearch.ports import Describer

_IN_FLIGHT = 32


@click.command()
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--triton", envvar="PSPSEARCH_TRITON", metavar="ADDRESS", help="A running Triton, instead of the bundled one."
)
@click.option(
    "--repository",
    envvar="PSPSEARCH_REPOSITORY",
    type=click.Path(path_type=Path),
    help="What the bundled Triton serves; the shipped models if not given.",
)
@click.option("--model", default="pspnet", show_default=True)
@click.option("--model-version", type=int, help="The highest that is served if not given.")
@box_option("--box", "each image")
def describe(
    images: tuple[Path, ...],
    triton: str | None,
    repository: Path | None,
    model: str,
    model_version: int | None,
    box: Box | None,
) -> None:
    """Print one JSON line per image, with its descriptor.

    For an image that cannot be read, it prints one sentence on standard error, describes the others, and exits with
    code 1.
    """
    server = triton or BundledTritonSettings(repository or default_repository())
    if run_until_signal(_describe(images, server, model, model_version, box)) != 0:
        sys.exit(1)


async def _describe(
    images: tuple[Path, ...], triton: str | BundledTritonSettings, model: str, version: int | None, box: Box | None
) -> int:
    """Describes the images, and returns how many could not be described."""
    from pspsearch.app.describer import open_describer

    failures = 0
    async with open_describer(triton, model, version) as describer:
        if box is not None and describer.takes is Takes.IMAGE:
            raise ModelMismatch(f"{describer.version} decodes images itself and knows no boxes: give it the part alone")
        async for image, answer in _in_order(describer, images, box):
            if isinstance(answer, InvalidRequest):
                failures += 1
                click.echo(f"error: {image}: {answer}", err=True)
            else:
                click.echo(json.dumps(_line(image, describer, answer)))
    return failures


async def _in_order(
    describer: "Describer", images: Iterable[Path], box: Box | None
) -> AsyncIterator[tuple[Path, NDArray[np.float32] | InvalidRequest]]:
    """Yields the answers in the images' order. Several images are under way, so decoding and inference overlap."""
    waiting = iter(images)
    under_way: deque[tuple[Path, asyncio.Task[NDArray[np.float32] | InvalidRequest]]] = deque()
    try:
        while True:
            for image in itertools.islice(waiting, _IN_FLIGHT - len(under_way)):
                under_way.append((image, asyncio.create_task(_describe_file(describer, image, box))))
            if not under_way:
                return
            image, task = under_way.popleft()
            yield image, await task
    finally:
        for _, task in under_way:
            task.cancel()


async def _describe_file(describer: "Describer", image: Path, box: Box | None) -> NDArray[np.float32] | InvalidRequest:
    try:
        if describer.takes is Takes.IMAGE:
            inputs: Inputs = [await asyncio.to_thread(_read, image)]
        else:
            shape = describer.version.contract.shape
            inputs = (await asyncio.to_thread(lambda: decode_pixels(_read(image), shape, box=box)))[None]
        return (await describer.describe(inputs)).descriptors[0]
    except InvalidRequest as error:
        return error


def _read(image: Path) -> bytes:
    try:
        return image.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"cannot be read: {error.strerror}") from error


def _line(image: Path, describer: "Describer", descriptor: NDArray[np.float32]) -> dict[str, Any]:
    version = describer.version
    return {
        "image": str(image),
        "model": version.model,
        "version": version.version,
        "fingerprint": version.contract.fingerprint,
        "descriptor": [round(float(number), 8) for number in descriptor],
    }
