"""From queries to points of a collection's space."""

import asyncio
import logging
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pspsearch.domain import Descriptors, Generation, Pixels
from pspsearch.errors import InvalidRequest, ModelMismatch, NotFound, PspsearchError, bare
from pspsearch.ports import Catalog, Describer
from pspsearch.search.call import Call, Stage
from pspsearch.search.decoding import Decoder
from pspsearch.search.live import Live, Space
from pspsearch.search.query import DescriptorQuery, ImageQuery, ItemQuery, Query

log = logging.getLogger(__name__)

_GRACE_S = 0.5
"""How much longer a write waits for other versions than for the one that answers; and twice as long as that took."""

Point = NDArray[np.float32]
"""One unit descriptor."""


class QueryDescriber:
    """Turns queries of every kind into descriptors, all images of a call in one request to the model."""

    def __init__(self, catalog: Catalog, decoder: Decoder) -> None:
        self._catalog = catalog
        self._decoder = decoder

    async def describe(
        self, live: Live, queries: Sequence[Query | PspsearchError], call: Call
    ) -> list[Point | PspsearchError]:
        """For each query its descriptor, or what is wrong with it. What may pass is raised for all of them."""
        images = [query.image for query in queries if isinstance(query, ImageQuery)]
        described = iter(await self.describe_images(live.describer, images, call))
        points: list[Point | PspsearchError] = []
        for query in queries:
            match query:
                case ImageQuery():
                    points.append(next(described))
                case ItemQuery():
                    points.append(await self._item(live.generation, query.id, call))
                case DescriptorQuery():
                    points.append(_given(live.generation, query))
                case PspsearchError():
                    points.append(query)
        return points

    async def describe_images(
        self, describer: Describer, images: Sequence[bytes], call: Call
    ) -> list[Point | PspsearchError]:
        """For each image its descriptor, or why it cannot be read."""
        return await _infer(describer, await self._decode(describer, images, call), call)

    async def describe_everywhere(
        self, live: Live, images: Sequence[bytes], call: Call
    ) -> list[tuple[Point | PspsearchError, dict[int, Point]]]:
        """For each image its descriptor, or why it cannot be read, and its descriptors in the spaces beside it.

        Where one of those cannot be had now, or only much later, it is left out.
        """
        spaces = live.others
        if not spaces:
            return [(point, {}) for point in await self.describe_images(live.describer, images, call)]
        decoded = await self._decode(live.describer, images, call)

        async def describe_beside(space: Space) -> list[Point | PspsearchError]:
            beside = call.beside()
            same = space.describer.version.contract.input == live.describer.version.contract.input
            pixels = decoded if same else await self._decode(space.describer, images, beside)
            return await _infer(space.describer, pixels, beside)

        started = time.perf_counter()
        others = [asyncio.create_task(describe_beside(space)) for space in spaces]
        try:
            points = await _infer(live.describer, decoded, call)
            await asyncio.wait(others, timeout=_GRACE_S + 2 * (time.perf_counter() - started))
        finally:
            for task in others:
                task.cancel()
            beside = await asyncio.gather(*others, return_exceptions=True)
        described: list[tuple[Point | PspsearchError, dict[int, Point]]] = [(point, {}) for point in points]
        for space, answer in zip(spaces, beside, strict=True):
            if isinstance(answer, BaseException):
                log.warning(
                    "%d images are to be described for %s later: %r", len(images), space.describer.version, answer
                )
                continue
            for (_, one), point in zip(described, answer, strict=True):
                if not isinstance(point, PspsearchError):
                    one[space.generation.key] = point
        return described

    async def _decode(self, describer: Describer, images: Sequence[bytes], call: Call) -> list[Pixels | InvalidRequest]:
        return await self._decoder.decode(images, describer.version.contract.input, call) if images else []

    async def _item(self, generation: Generation, id: str, call: Call) -> Point | PspsearchError:  # noqa: A002
        with call.stage(Stage.SEARCH):
            stored = await self._catalog.descriptor(generation, id)
        if stored is None:
            return NotFound(f"there is no item {id!r} in the collection")
        return normalise(stored.astype(np.float32)[None])[0]


async def _infer(
    describer: Describer, decoded: Sequence[Pixels | InvalidRequest], call: Call
) -> list[Point | PspsearchError]:
    """All that are readable in one request."""
    readable = [pixels for pixels in decoded if not isinstance(pixels, InvalidRequest)]
    if not readable:
        return [pixels for pixels in decoded if isinstance(pixels, InvalidRequest)]
    with call.stage(Stage.INFERENCE):
        batch = readable[0][None] if len(readable) == 1 else np.stack(readable)
        rows = iter(await describer.describe(batch, timeout_s=call.remaining_s()))
    return [pixels if isinstance(pixels, InvalidRequest) else next(rows) for pixels in decoded]


def check_point(generation: Generation, query: DescriptorQuery) -> Point:
    """The descriptor at unit length; ModelMismatch where it is of another space, InvalidRequest where it is none."""
    if query.fingerprint != generation.fingerprint:
        raise ModelMismatch(
            f"the descriptor is of the space {query.fingerprint or '(none given)'!r}, and the collection's is "
            f"{generation.fingerprint!r} ({generation.model}/{generation.version}): describe the image anew"
        )
    values = query.values
    if values.shape != (generation.dimension,):
        raise InvalidRequest(f"the descriptor has {len(values)} numbers, and the space has {generation.dimension}")
    if not np.isfinite(values).all():
        raise InvalidRequest("the descriptor holds a number that is not finite")
    exact = values.astype(np.float64)
    length = np.sqrt(exact @ exact)
    if not length > 1e-12:
        raise InvalidRequest("the descriptor is zero and points nowhere")
    return (exact / length).astype(np.float32)


def normalise(rows: Descriptors) -> Descriptors:
    """Each at unit length; computed in double, so that huge and tiny numbers do no harm."""
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    return (rows / lengths).astype(np.float32)


def _given(generation: Generation, query: DescriptorQuery) -> Point | PspsearchError:
    try:
        return check_point(generation, query)
    except PspsearchError as error:
        return bare(error)
