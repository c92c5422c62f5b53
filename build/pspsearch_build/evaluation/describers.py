"""Whatever describes pictures: networks in every form, a running server, and plain baselines."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pspsearch.client import Client
from pspsearch.errors import BadImage
from pspsearch.images.pixels import decode_pixels
from pspsearch.model.contract import DESCRIPTOR, InputShape
from pspsearch_build.errors import BuildError
from pspsearch_build.evaluation.retrieval import Descriptors
from pspsearch_build.forms import Pixels

BATCH = 32
_TIMED_CALLS = 20


class Describer(Protocol):
    """Gives every picture a unit descriptor."""

    @property
    def name(self) -> str:
        """The describer's name in reports."""
        ...

    @property
    def size_bytes(self) -> int | None:
        """The size of its weights on disk; None if unknown."""
        ...

    @property
    def gflop(self) -> float | None:
        """The work of its network for one picture; None if unknown."""
        ...

    def describe(self, paths: Sequence[Path], advance: Callable[[int], None]) -> Descriptors:
        """One row per picture, in order. `advance` receives how many more are done. BuildError names a bad file."""
        ...

    def latency_ms(self, path: Path) -> float:
        """The median time of several calls with this picture, decoding included."""
        ...


@dataclass(frozen=True, slots=True)
class PixelDescriber:
    """Describes pictures with a function of pixels."""

    name: str
    shape: InputShape
    run: Callable[[Pixels], Descriptors]
    """Runs one batch of any size; its rows need not have unit length."""
    size_bytes: int | None = None
    gflop: float | None = None

    def describe(self, paths: Sequence[Path], advance: Callable[[int], None]) -> Descriptors:
        """See Describer."""
        rows: list[Descriptors] = []
        for pixels in read_batches(paths, self.shape):
            rows.append(_unit(self.run(pixels)))
            advance(len(pixels))
        return np.concatenate(rows)

    def latency_ms(self, path: Path) -> float:
        """See Describer."""
        return _median_ms(lambda: self.run(_decode(path, self.shape)[None]))


@dataclass(frozen=True, slots=True)
class ServerDescriber:
    """Describes pictures with a collection of a running pspsearch server."""

    address: str
    collection: str
    size_bytes: int | None = None
    gflop: float | None = None

    @property
    def name(self) -> str:
        """See Describer."""
        return f"server {self.address}/{self.collection}"

    def describe(self, paths: Sequence[Path], advance: Callable[[int], None]) -> Descriptors:
        """See Describer."""
        rows: list[NDArray[np.float32]] = []
        with Client(self.address) as client:
            for path in paths:
                rows.append(client.describe(_read(path), collection=self.collection).descriptor.values)
                advance(1)
        return np.stack(rows)

    def latency_ms(self, path: Path) -> float:
        """See Describer."""
        image = _read(path)
        with Client(self.address) as client:
            return _median_ms(lambda: client.describe(image, collection=self.collection))


def read_batches(paths: Sequence[Path], shape: InputShape) -> Iterator[Pixels]:
    """The pictures' pixels, up to BATCH at a time. BuildError names a picture that cannot be used."""
    for start in range(0, len(paths), BATCH):
        yield np.stack([_decode(path, shape) for path in paths[start : start + BATCH]])


def colour_histogram() -> PixelDescriber:
    """The square roots of the shares of 512 colours: 8 hues by 8 saturations by 8 values."""
    return PixelDescriber("HSV histogram", InputShape(128, 128), _count_colours)


def of_outputs(run: Callable[[Pixels], dict[str, NDArray[np.float32]]]) -> Callable[[Pixels], Descriptors]:
    """Turns a form of a network into a function that returns its descriptors alone."""
    return lambda pixels: run(pixels)[DESCRIPTOR]


def _count_colours(pixels: Pixels) -> Descriptors:
    scaled = pixels.astype(np.float32) / 255
    value = scaled.max(axis=-1)
    chroma = value - scaled.min(axis=-1)
    saturation = np.divide(chroma, value, out=np.zeros_like(value), where=value > 0)
    red, green, blue = np.moveaxis(scaled, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        sixths = np.select(
            [chroma == 0, value == red, value == green],
            [0, (green - blue) / chroma % 6, (blue - red) / chroma + 2],
            (red - green) / chroma + 4,
        )
    hue, saturation, value = (np.minimum((8 * part).astype(np.int64), 7) for part in (sixths / 6, saturation, value))
    colours = (64 * hue + 8 * saturation + value).reshape(len(pixels), -1)
    counts = np.stack([np.bincount(row, minlength=512) for row in colours])
    return np.sqrt(counts).astype(np.float32)


def _unit(rows: Descriptors) -> Descriptors:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _decode(path: Path, shape: InputShape) -> Pixels:
    try:
        return decode_pixels(_read(path), shape)
    except BadImage as error:
        raise BuildError(f"{path} cannot be used: {error}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BuildError(f"{path} cannot be read: {error}") from error


def _median_ms(act: Callable[[], object]) -> float:
    times: list[float] = []
    for _ in range(_TIMED_CALLS):
        started = time.perf_counter()
        act()
        times.append(1000 * (time.perf_counter() - started))
    return float(np.median(times))
