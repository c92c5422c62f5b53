"""A describer that looks at colours, and stalls or fails when a test says so."""

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import ImageColor

from pspsearch.domain import Described, Descriptors, Inputs, ModelVersion, Pixels, Urgency
from pspsearch.errors import DeadlineExceeded, InvalidRequest
from pspsearch.images.pixels import decode_pixels
from pspsearch.model.contract import Contract, InputShape, Takes

DIMENSION = 16
VERSION = ModelVersion("colours", 1, Contract(InputShape(32, 32), DIMENSION, "fp32", "c0" * 32))


class ColourDescriber:
    """Implements the port `Describer`: the mean colour of each quarter of an image, and how much its colours vary."""

    def __init__(self, version: ModelVersion = VERSION, shift: int = 0) -> None:
        """Another `shift` makes another space with the same neighbours."""
        self.version = version
        self._shift = shift
        self.reason = ""
        """Why the version cannot be used; empty if it can."""
        self.images = 0
        """How many images calls have asked it to describe."""
        self.timeout_s: float | None = None
        """The timeout that the last call was given."""
        self.urgencies: list[Urgency] = []
        """How urgent each call was."""
        self.failure: Exception | None = None
        """Raised by every call, if set."""
        self.entered = asyncio.Event()
        """Set by every call as it comes in."""
        self.may_answer = asyncio.Event()
        """Calls wait while it is clear."""
        self.may_answer.set()

    @property
    def takes(self) -> Takes:
        """What the contract says."""
        return self.version.contract.takes

    async def describe(
        self,
        inputs: Inputs,
        *,
        cells: bool = False,
        timeout_s: float | None = None,
        urgency: Urgency = Urgency.SEARCH,
    ) -> Described:
        """Returns one row for each image, which depends on that image alone."""
        self.images += len(inputs)
        self.timeout_s = timeout_s
        self.urgencies.append(urgency)
        self.entered.set()
        pixels = self._pixels(inputs)
        try:
            async with asyncio.timeout(timeout_s):
                await self.may_answer.wait()
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed while the image was being described") from None
        if self.failure is not None:
            raise self.failure
        return Described(np.stack([np.roll(describe_pixels(one), self._shift) for one in pixels]))

    def _pixels(self, inputs: Inputs) -> list[Pixels]:
        """Returns the pixels, decoding them if the model takes encoded images."""
        shape = self.version.contract.input
        if shape is None:
            return [decode_pixels(one, InputShape(32, 32)) for one in inputs if isinstance(one, bytes)]
        if not isinstance(inputs, np.ndarray) or inputs.shape[1:] != (shape.height_px, shape.width_px, 3):
            raise InvalidRequest(f"the model takes {shape.height_px} x {shape.width_px} px")
        return list(inputs)


class ColourCells(ColourDescriber):
    """Describes cells as well. Its head is linear up to the length: a descriptor is the sum of the finest cells."""

    BINS = (1, 2, 4)

    def __init__(self, version: ModelVersion | None = None, shift: int = 0) -> None:
        super().__init__(version or replace(VERSION, contract=replace(VERSION.contract, bins=self.BINS)), shift)
        rng = np.random.default_rng(0)
        self._projection = rng.normal(size=(3, DIMENSION)).astype(np.float32)

    async def describe(
        self,
        inputs: Inputs,
        *,
        cells: bool = False,
        timeout_s: float | None = None,
        urgency: Urgency = Urgency.SEARCH,
    ) -> Described:
        """Returns one row for each image and, if asked for, one for each cell."""
        await super().describe(inputs, timeout_s=timeout_s, urgency=urgency)
        whole, parts = zip(*map(self._see, self._pixels(inputs)), strict=True)
        return Described(np.stack(whole), np.stack(parts) if cells else None)

    def _see(self, pixels: Pixels) -> tuple[Descriptors, Descriptors]:
        rows: list[Descriptors] = []
        for across in self.BINS:
            side = len(pixels) // across
            grid = pixels.reshape(across, side, across, side, 3).mean(axis=(1, 3)).reshape(-1, 3) / 127.5 - 1
            rows.append(np.roll(grid @ self._projection + 0.1, self._shift, axis=1).astype(np.float32))
        whole, parts = rows[-1].mean(axis=0), np.concatenate(rows)
        return whole / np.linalg.norm(whole), parts / np.linalg.norm(parts, axis=1, keepdims=True)


class ColourWords:
    """A text tower in the space of the colours: the descriptor of a picture that has only the named colour."""

    def __init__(self, space: str) -> None:
        self.takes = Takes.TEXT
        self.version = ModelVersion("words", 1, Contract(None, DIMENSION, "fp16", "77" * 32, Takes.TEXT, space=space))

    async def describe(
        self,
        inputs: Inputs,
        *,
        cells: bool = False,
        timeout_s: float | None = None,
        urgency: Urgency = Urgency.SEARCH,
    ) -> Described:
        """Returns one row for each name of a colour."""
        colours = [ImageColor.getrgb(one)[:3] for one in inputs if isinstance(one, str)]
        return Described(np.stack([describe_pixels(np.full((32, 32, 3), colour, np.uint8)) for colour in colours]))


def version(number: int, **changes: Any) -> ModelVersion:
    """Returns another version of the model, in a space of its own."""
    return ModelVersion(VERSION.model, number, replace(VERSION.contract, digest=f"{number:064x}", **changes))


def describe_pixels(pixels: Pixels) -> Descriptors:
    """Returns rows of unit length: 12 means, 3 deviations and a constant, so that nothing is zero."""
    colours = pixels.astype(np.float32) / 127.5 - 1
    height, width = colours.shape[0] // 2, colours.shape[1] // 2
    quarters = [colours[top : top + height, left : left + width] for top in (0, height) for left in (0, width)]
    means = [quarter.mean(axis=(0, 1)) for quarter in quarters]
    vector = np.concatenate([*means, colours.std(axis=(0, 1)), np.full(1, 0.1, np.float32)])
    return vector / np.linalg.norm(vector)


class Collapsed(ColourDescriber):
    """A describer to which all images look alike."""

    async def describe(
        self,
        inputs: Inputs,
        *,
        cells: bool = False,
        timeout_s: float | None = None,
        urgency: Urgency = Urgency.SEARCH,
    ) -> Described:
        """Returns the same row for each image."""
        described = await super().describe(inputs, timeout_s=timeout_s, urgency=urgency)
        return Described(np.tile(describe_pixels(np.zeros((32, 32, 3), np.uint8)), (len(described.descriptors), 1)))
