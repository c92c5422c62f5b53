"""The Describer port, implemented with Triton."""

import asyncio
import logging
import math
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from pspsearch.domain import Described, Descriptors, Inputs, ModelVersion, Urgency
from pspsearch.errors import (
    BrokenModel,
    DamagedImage,
    InvalidRequest,
    ModelMismatch,
    PspsearchError,
    RetryLater,
    TritonUnavailable,
)
from pspsearch.images.pixels import USUAL_LIMITS, ImageLimits, read_facts
from pspsearch.model.checksum import checksum
from pspsearch.model.config import read_contract
from pspsearch.model.contract import CELLS, CHECKSUM, DESCRIPTOR, InputShape, Takes
from pspsearch.triton.client import TritonClient
from pspsearch.triton.owned_name import OwnedName
from pspsearch.triton.shared_memory import PixelRing

log = logging.getLogger(__name__)

_RING_CELLS = 128
_REGISTER_AGAIN_S, _REGISTER_AT_LAST_S = 1.0, 60.0
"""The first and the longest pause before shared memory is registered again; each is twice the one before."""
_UNIT_TOLERANCE = 1e-3


class TritonDescriber:
    """Describes with one version of one Triton model, and names that version in every request.

    If Triton is on this host, pixels go through shared memory and the request only says where they are. They go in the
    request if Triton is elsewhere, if the memory is full, or if a restarted Triton has forgotten it. Encoded images and
    texts always go in the request.

    If the model's config declares a checksum, an answer that was computed from other pixels is refused.
    """

    def __init__(
        self,
        client: TritonClient,
        version: ModelVersion,
        max_batch_size: int,
        *,
        checks: bool = False,
        limits: ImageLimits = USUAL_LIMITS,
    ) -> None:
        self._client = client
        self._version = version
        self._checks = checks
        self._limits = limits
        self._max_batch_size = max(1, max_batch_size)
        self.objection = ""
        """Why this version must no longer be used; "" if it may."""
        self._ring: PixelRing | None = None
        self._owned_name: OwnedName | None = None
        self._registering: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        client: TritonClient,
        model: str,
        version: int | None = None,
        *,
        shared_memory: bool | None = None,
        limits: ImageLimits = USUAL_LIMITS,
    ) -> Self:
        """Opens a describer for that version, or for the highest that is ready. Raises ModelMismatch if there is none.

        With `shared_memory` None, shared memory is tried if Triton's address is this host. The caller still closes the
        client.
        """
        chosen = await _choose_version(client, model, version)
        config = await client.config(model)
        contract = read_contract(config, chosen)
        checks = (
            contract.checksums
            and contract.input is not None
            and any(output.name == CHECKSUM for output in config.output)
        )
        describer = cls(
            client, ModelVersion(model, chosen, contract), config.max_batch_size, checks=checks, limits=limits
        )
        if contract.input and (shared_memory or (shared_memory is None and _is_this_host(client.address))):
            await describer._open_ring(contract.input)
        return describer

    @property
    def version(self) -> ModelVersion:
        """The model version that gives every answer."""
        return self._version

    @property
    def takes(self) -> Takes:
        """What the contract says."""
        return self._version.contract.takes

    @property
    def uses_shared_memory(self) -> bool:
        """Whether pixels go through shared memory at present."""
        return self._ring is not None and self._registering is None

    async def describe(
        self,
        inputs: Inputs,
        *,
        cells: bool = False,
        timeout_s: float | None = None,
        urgency: Urgency = Urgency.SEARCH,
    ) -> Described:
        """See `ports.Describer`. Inputs beyond the model's batch size go in several concurrent batches.

        Triton takes them as they come, however urgent they are.
        """
        self._check(inputs)
        if self.objection:
            raise ModelMismatch(self.objection)
        outputs = self._outputs(cells=cells)
        step = self._max_batch_size
        chunks = [inputs[first : first + step] for first in range(0, len(inputs), step)]
        if len(chunks) == 1:
            return await self._describe_batch(chunks[0], outputs, timeout_s)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._describe_batch(chunk, outputs, timeout_s)) for chunk in chunks]
        except ExceptionGroup as errors:  # if several failed together, any of them says why
            raise errors.exceptions[0] from None
        return _join([task.result() for task in tasks])

    async def close(self) -> None:
        """Releases the shared memory, here and in Triton."""
        if self._registering is not None:
            self._registering.cancel()
        ring, self._ring = self._ring, None
        if ring is not None:
            try:
                await self._client.unregister_shared_memory(ring.key)
            except PspsearchError:
                log.debug("Triton is gone, and its mapping of %s with it", ring.key)
            ring.close()
        if self._owned_name is not None:
            self._owned_name.release()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _check(self, inputs: Inputs) -> None:
        contract = self._version.contract
        if contract.input is not None:
            if not isinstance(inputs, np.ndarray):
                raise InvalidRequest(f"{self._version} takes pixels, not encoded images or texts")
            self._version.check_pixels(inputs)
            return
        takes_texts = contract.takes is Takes.TEXT
        if (
            isinstance(inputs, np.ndarray)
            or not inputs
            or any(isinstance(one, str) is not takes_texts for one in inputs)
        ):
            what = "texts" if takes_texts else "encoded images"
            raise InvalidRequest(f"{self._version} takes {what}, one or more, and nothing else")
        for one in inputs:
            if isinstance(one, bytes):
                read_facts(one, self._limits)

    def _outputs(self, *, cells: bool) -> tuple[str, ...]:
        names = (DESCRIPTOR, CELLS) if cells and self._version.contract.cells else (DESCRIPTOR,)
        return (*names, CHECKSUM) if self._checks else names

    async def _describe_batch(self, inputs: Inputs, outputs: Sequence[str], timeout_s: float | None) -> Described:
        if not isinstance(inputs, np.ndarray):
            request = self._request("BYTES", (len(inputs), 1), outputs, timeout_s, serialise(inputs))
            try:
                return await self._infer(request, inputs, outputs, timeout_s)
            except ModelMismatch as error:
                if self.takes is Takes.IMAGE and len(inputs) == 1 and "refuses the request" in str(error):
                    raise DamagedImage(f"the model cannot read the image: {error}") from error
                raise
        ring = self._ring if self.uses_shared_memory else None
        first = ring.take(len(inputs)) if ring is not None else None
        if ring is None or first is None:
            request = self._request("UINT8", inputs.shape, outputs, timeout_s, inputs.tobytes())
            return await self._infer(request, inputs, outputs, timeout_s)
        try:
            ring.write(first, inputs)
            request = self._request("UINT8", inputs.shape, outputs, timeout_s)
            parameters = request.inputs[0].parameters
            parameters["shared_memory_region"].string_param = ring.key
            parameters["shared_memory_byte_size"].int64_param = len(inputs) * ring.cell_bytes
            parameters["shared_memory_offset"].int64_param = first * ring.cell_bytes
            return await self._infer(request, inputs, outputs, timeout_s)
        except ModelMismatch as error:
            if "shared memory region" not in str(error):
                raise
        finally:
            ring.give_back(first, len(inputs))
        self._register_again()
        return await self._describe_batch(inputs, outputs, timeout_s)

    def _request(
        self,
        datatype: str,
        shape: tuple[int, ...],
        outputs: Sequence[str],
        timeout_s: float | None,
        content: bytes | None = None,
    ) -> service_pb2.ModelInferRequest:
        """Makes a request, without `content` if that lies in shared memory."""
        taken = service_pb2.ModelInferRequest.InferInputTensor(
            name=self._version.contract.takes.value, datatype=datatype, shape=shape
        )
        request = service_pb2.ModelInferRequest(
            model_name=self._version.model,
            model_version=str(self._version.version),
            inputs=[taken],
            outputs=[service_pb2.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in outputs],
            raw_input_contents=[] if content is None else [content],
        )
        if timeout_s is not None:  # so that Triton's queue drops requests whose caller has given up
            request.parameters["timeout"].int64_param = max(1, int(timeout_s * 1e6))
        return request

    async def _infer(
        self,
        request: service_pb2.ModelInferRequest,
        inputs: Inputs,
        outputs: Sequence[str],
        timeout_s: float | None,
    ) -> Described:
        answer = await self._client.infer(request, timeout_s)
        contents = {
            output.name: content for output, content in zip(answer.outputs, answer.raw_output_contents, strict=False)
        }
        contract = self._version.contract
        descriptors = self._rows(contents.get(DESCRIPTOR, b""), (contract.dimension,))
        if self._checks and not _is_of(inputs, descriptors, contents.get(CHECKSUM, b"")):
            self._client.distrust()
            raise TritonUnavailable(f"Triton at {self._client.address} answered another request")
        if len(descriptors) != len(inputs):
            raise BrokenModel(
                f"{self._version} answered for {len(descriptors)} images, and was asked for {len(inputs)}"
            )
        lengths = np.linalg.norm(descriptors, axis=1)
        if not np.all(np.abs(lengths - 1) < _UNIT_TOLERANCE):  # written so that NaN fails it
            raise BrokenModel(f"{self._version} answers with a descriptor that is not of unit length")
        if CELLS not in outputs:
            return Described(descriptors)
        cells = self._rows(contents.get(CELLS, b""), (contract.cells, contract.dimension))
        if len(cells) != len(inputs):
            raise BrokenModel(f"{self._version} answered with the cells of {len(cells)} images, not {len(inputs)}")
        return Described(descriptors, cells)

    def _rows(self, content: bytes, shape: tuple[int, ...]) -> NDArray[np.float32]:
        if len(content) % (4 * math.prod(shape)):
            raise BrokenModel(f"{self._version} promises {math.prod(shape)} numbers per image and sends others")
        return np.frombuffer(content, np.float32).reshape(-1, *shape)

    async def _open_ring(self, shape: InputShape) -> None:
        try:
            self._owned_name = OwnedName()
            self._ring = PixelRing(f"{self._owned_name.prefix}-pixels", _RING_CELLS, shape.height_px, shape.width_px)
            await self._register()
        except RetryLater:
            self._register_again()
        except (OSError, PspsearchError) as error:
            log.info("pixels go to Triton in the request, not through shared memory: %s", error)
            await self.close()

    async def _register(self) -> None:
        assert self._ring is not None
        await self._client.register_shared_memory(self._ring.key, f"/{self._ring.key}", self._ring.size_bytes)

    def _register_again(self) -> None:
        """Registers the region again, in the background: a restarted Triton has forgotten it.

        Meanwhile pixels go in the requests.
        """

        async def register() -> None:
            pause_s = _REGISTER_AGAIN_S
            while True:
                try:
                    await self._register()
                    break
                except PspsearchError as error:
                    log.warning("Triton does not take the shared memory, again in %g s: %s", pause_s, error)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _REGISTER_AT_LAST_S)
            self._registering = None

        if self._registering is None:
            self._registering = asyncio.create_task(register())


def serialise(inputs: Sequence[bytes] | Sequence[str]) -> bytes:
    """Writes the content of a BYTES tensor as Triton wants it: each element follows its length."""
    elements = [one.encode() if isinstance(one, str) else one for one in inputs]
    return b"".join(len(one).to_bytes(4, "little") + one for one in elements)


def _join(parts: Sequence[Described]) -> Described:
    cells = [one.cells for one in parts if one.cells is not None]
    return Described(
        np.concatenate([one.descriptors for one in parts]), np.concatenate(cells) if len(cells) == len(parts) else None
    )


def _is_of(inputs: Inputs, descriptors: Descriptors, told: bytes) -> bool:
    """Whether the answer was computed from these pixels, according to the checksum that the model sent."""
    assert isinstance(inputs, np.ndarray), "only programs that take pixels tell checksums"
    return len(descriptors) == len(inputs) and checksum(inputs, descriptors).tobytes() == told


async def _choose_version(client: TritonClient, model: str, version: int | None) -> int:
    ready = [state.version for state in await client.index() if state.model == model and state.ready]
    served = sorted(number for number in ready if number is not None)
    if not served:
        raise ModelMismatch(f"Triton at {client.address} serves no version of {model}")
    if version is not None and version not in served:
        raise ModelMismatch(f"Triton at {client.address} serves {model} in version {served}, not {version}")
    return served[-1] if version is None else version


def _is_this_host(address: str) -> bool:
    host = address.rpartition(":")[0]
    return host in {"localhost", "127.0.0.1", "[::1]"}
