"""Turns queries into descriptors of a collection's space."""

import asyncio
import logging
import time
from collections.abc import Sequence

import numpy as np

from pspsearch.call import Call, Stage
from pspsearch.describe.decoding import Decoder
from pspsearch.domain import Described, Descriptor, Descriptors, Generation, Pixels, Urgency
from pspsearch.errors import InvalidRequest, ModelMismatch, NotFound, PspsearchError, bare
from pspsearch.live.live import Live, OpenGeneration
from pspsearch.model.contract import InputShape, Takes
from pspsearch.ports import Describer, Items
from pspsearch.query import DescriptorQuery, ImageQuery, ItemQuery, Query

log = logging.getLogger(__name__)

_GRACE_S = 0.5
"""How long a write waits for the other versions after the active one has answered, plus twice the time that took."""


_Prepared = Pixels | bytes | PspsearchError
"""An image as a model takes it, or the reason why it cannot be given."""


class QueryDescriber:
    """Turns queries of every kind into descriptors, with all images of a call in one request to the model."""

    def __init__(self, catalog: Items, decoder: Decoder) -> None:
        self._catalog = catalog
        self._decoder = decoder

    async def describe(
        self, live: Live, queries: Sequence[Query | PspsearchError], call: Call
    ) -> list[Descriptor | PspsearchError]:
        """Returns for each query its descriptor or its error. Raises an error that may pass, for all of them."""
        images = [query for query in queries if isinstance(query, ImageQuery)]
        described = iter(await _infer(live.describer, await self._prepare(live.describer, images, call), call))
        descriptors: list[Descriptor | PspsearchError] = []
        for query in queries:
            match query:
                case ImageQuery():
                    descriptors.append(next(described))
                case ItemQuery():
                    descriptors.append(await self._item(live.generation, query.id, call))
                case DescriptorQuery():
                    descriptors.append(_given(live, query))
                case PspsearchError():
                    descriptors.append(query)
        return descriptors

    async def describe_images(
        self, describer: Describer, images: Sequence[bytes], call: Call
    ) -> list[Descriptor | PspsearchError]:
        """Returns for each image its descriptor, or the error if it cannot be read."""
        return await _infer(describer, await self._prepare(describer, list(map(ImageQuery, images)), call), call)

    async def describe_cells(self, describer: Describer, image: ImageQuery, call: Call) -> Described:
        """Describes an image with its cells. Raises the error if it cannot be read."""
        (prepared,) = await self._prepare(describer, [image], call)
        if isinstance(prepared, PspsearchError):
            raise prepared
        inputs = [prepared] if isinstance(prepared, bytes) else prepared[None]
        with call.stage(Stage.INFERENCE):
            return await describer.describe(inputs, cells=True, timeout_s=call.remaining_s(), urgency=call.urgency)

    async def describe_everywhere(
        self, live: Live, images: Sequence[bytes], call: Call
    ) -> list[tuple[Descriptor | PspsearchError, dict[int, Descriptor]]]:
        """Returns for each image its descriptor or error, and its descriptors in the generations beside `live`, by key.

        A descriptor beside is left out if it cannot be had now, or only much later.
        """
        if not live.beside:
            return [(descriptor, {}) for descriptor in await self.describe_images(live.describer, images, call)]
        pictures = list(map(ImageQuery, images))
        prepared = await self._prepare(live.describer, pictures, call)

        async def describe_beside(opened: OpenGeneration) -> list[Descriptor | PspsearchError]:
            beside = call.beside()
            same = _input_of(opened.describer) == _input_of(live.describer)
            ready = prepared if same else await self._prepare(opened.describer, pictures, beside)
            return await _infer(opened.describer, ready, beside)

        started = time.perf_counter()
        tasks = [asyncio.create_task(describe_beside(opened)) for opened in live.beside]
        try:
            descriptors = await _infer(live.describer, prepared, call)
            await asyncio.wait(tasks, timeout=_GRACE_S + 2 * (time.perf_counter() - started))
        finally:
            for task in tasks:
                task.cancel()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
        described: list[tuple[Descriptor | PspsearchError, dict[int, Descriptor]]] = [
            (descriptor, {}) for descriptor in descriptors
        ]
        for opened, answer in zip(live.beside, answers, strict=True):
            if isinstance(answer, BaseException):
                log.warning(
                    "%d images are to be described for %s later: %r", len(images), opened.describer.version, answer
                )
                continue
            for (_, one), descriptor in zip(described, answer, strict=True):
                if not isinstance(descriptor, PspsearchError):
                    one[opened.generation.key] = descriptor
        return described

    async def _prepare(self, describer: Describer, images: Sequence[ImageQuery], call: Call) -> Sequence[_Prepared]:
        """Decodes all images for a describer that takes pixels, and those with a box for one that takes images."""
        contract = describer.version.contract
        if describer.takes is not Takes.IMAGE:
            return await self._decoder.decode(images, contract.shape, call) if images else []
        prepared: list[_Prepared] = [image.image for image in images]
        boxed = [place for place, image in enumerate(images) if image.box is not None]
        if not boxed:
            return prepared
        if contract.takes is Takes.IMAGE:
            refusal = ModelMismatch(
                f"{describer.version} decodes images itself and knows no boxes: send the part as an image of its own"
            )
            parts: Sequence[_Prepared] = [refusal] * len(boxed)
        else:
            parts = await self._decoder.decode([images[place] for place in boxed], contract.shape, call)
        for place, part in zip(boxed, parts, strict=True):
            prepared[place] = part
        return prepared

    async def _item(self, generation: Generation, id: str, call: Call) -> Descriptor | PspsearchError:  # noqa: A002
        with call.stage(Stage.SEARCH):
            stored = await self._catalog.descriptor(generation, id)
        if stored is None:
            return NotFound(f"there is no item {id!r} in the collection")
        return normalise(stored.astype(np.float32)[None])[0]


async def _infer(describer: Describer, prepared: Sequence[_Prepared], call: Call) -> list[Descriptor | PspsearchError]:
    """Describes all readable pixels in one request. If there is an encoded image, each is described in one of its own.

    So an encoded image that turns out to be damaged fails alone.
    """
    readable = [one for one in prepared if not isinstance(one, PspsearchError)]
    pixels = [one for one in readable if isinstance(one, np.ndarray)]
    if not readable:
        return [one for one in prepared if isinstance(one, PspsearchError)]
    with call.stage(Stage.INFERENCE):
        timeout_s, urgency = call.remaining_s(), call.urgency
        if len(pixels) < len(readable):
            tasks = [asyncio.create_task(_infer_one(describer, one, timeout_s, urgency)) for one in readable]
            try:
                rows = iter(await asyncio.gather(*tasks))
            finally:
                for task in tasks:
                    task.cancel()  # if one of them failed, nobody waits for the others
        else:
            batch = pixels[0][None] if len(pixels) == 1 else np.stack(pixels)
            described = await describer.describe(batch, timeout_s=timeout_s, urgency=urgency)
            rows = iter(described.descriptors)
    return [one if isinstance(one, PspsearchError) else next(rows) for one in prepared]


async def _infer_one(
    describer: Describer, image: bytes | Pixels, timeout_s: float | None, urgency: Urgency
) -> Descriptor | PspsearchError:
    inputs = [image] if isinstance(image, bytes) else image[None]
    try:
        return (await describer.describe(inputs, timeout_s=timeout_s, urgency=urgency)).descriptors[0]
    except InvalidRequest as error:
        return bare(error)


def _input_of(describer: Describer) -> tuple[Takes, InputShape | None]:
    """What decides whether two describers can be given the same prepared image."""
    return describer.takes, None if describer.takes is Takes.IMAGE else describer.version.contract.input


def check_descriptor(live: Live, query: DescriptorQuery) -> Descriptor:
    """Returns the descriptor at unit length.

    Raises ModelMismatch if it is of another space, InvalidRequest if it is no valid descriptor.
    """
    generation = live.generation
    if not live.describer.version.contract.compares_with(query.fingerprint):
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
    """Scales each row to unit length, in double precision so that huge and tiny numbers are safe."""
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    return (rows / lengths).astype(np.float32)


def _given(live: Live, query: DescriptorQuery) -> Descriptor | PspsearchError:
    try:
        return check_descriptor(live, query)
    except PspsearchError as error:
        return bare(error)
