"""The Describer port over a network in this process."""

import asyncio
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pspsearch.domain import Described, Inputs, ModelVersion, Urgency
from pspsearch.embedded.network import Answer, Network, Prepare
from pspsearch.embedded.workers import Workers
from pspsearch.errors import BrokenModel, DeadlineExceeded, InvalidRequest
from pspsearch.images.pixels import ImageLimits, decode_pixels
from pspsearch.model.contract import Takes

_UNIT_TOLERANCE = 1e-3


class EmbeddedDescriber:
    """Takes encoded images, which its threads decode straight into the network's input, or pixels."""

    takes = Takes.IMAGE

    def __init__(self, version: ModelVersion, network: Network, workers: Workers, limits: ImageLimits) -> None:
        self.version = version
        self._network = network
        self._workers = workers
        self._limits = limits

    async def describe(
        self,
        inputs: Inputs,
        *,
        cells: bool = False,
        timeout_s: float | None = None,
        urgency: Urgency = Urgency.SEARCH,
    ) -> Described:
        """See the port. If one of several images cannot be read, that is raised for all of them."""
        wants_cells = cells and bool(self.version.contract.cells)
        answers: list[asyncio.Future[Answer]] = []
        try:
            answers.extend(
                self._workers.submit(self._network, prepare, cells=wants_cells, urgency=urgency)
                for prepare in self._preparations(inputs)
            )
            async with asyncio.timeout(timeout_s):
                described = await asyncio.gather(*answers)
        except TimeoutError:
            raise DeadlineExceeded(f"{self.version} had no answer in time") from None
        finally:
            for answer in answers:
                answer.cancel()
        return self._check(described)

    def _preparations(self, inputs: Inputs) -> list[Prepare]:
        if isinstance(inputs, np.ndarray):
            self.version.check_pixels(inputs)
            return [partial(_copy, one) for one in inputs]
        if not inputs or any(isinstance(one, str) for one in inputs):
            raise InvalidRequest(f"{self.version} takes encoded images or pixels, one or more, and nothing else")
        return [partial(self._decode, one) for one in inputs if isinstance(one, bytes)]

    def _decode(self, image: bytes, place: NDArray[np.uint8]) -> None:
        decode_pixels(image, self.version.contract.shape, self._limits, out=place)

    def _check(self, described: Sequence[Answer]) -> Described:
        descriptors = np.stack([descriptor for descriptor, _ in described])
        lengths = np.linalg.norm(descriptors, axis=1)
        if descriptors.shape[1] != self.version.contract.dimension or not np.all(np.abs(lengths - 1) < _UNIT_TOLERANCE):
            raise BrokenModel(f"{self.version} answers with a descriptor that is not what its contract promises")
        cells = [cells for _, cells in described if cells is not None]
        return Described(descriptors, np.stack(cells) if cells else None)


def _copy(pixels: NDArray[np.uint8], place: NDArray[np.uint8]) -> None:
    place[:] = pixels
