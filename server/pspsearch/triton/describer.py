"""The Describer port over Triton."""

import asyncio
import logging
from types import TracebackType
from typing import Self

import numpy as np
from tritonclient.grpc import model_config_pb2, service_pb2

from pspsearch.domain import Descriptors, ModelVersion, Pixels
from pspsearch.errors import BrokenModel, InvalidRequest, ModelMismatch, PspsearchError, RetryLater, TritonUnavailable
from pspsearch.model.checksum import checksum
from pspsearch.model.config_digest import check_digest
from pspsearch.model.contract import CHECKSUM, DESCRIPTOR, PIXELS, Contract, parameter_key
from pspsearch.triton.client import TritonClient
from pspsearch.triton.owned_name import OwnedName
from pspsearch.triton.shared_memory import PixelRing

log = logging.getLogger(__name__)

_RING_CELLS = 128
_REGISTER_AGAIN_S, _REGISTER_AT_LAST_S = 1.0, 60.0
"""The first pause before memory that Triton did not take is offered again, and the longest: each is twice the last."""
_UNIT_TOLERANCE = 1e-3


class TritonDescriber:
    """Asks one version of one Triton model, and names that version in every request.

    Where Triton is on this host the pixels go through shared memory and only their place is sent; where it is
    not, where the memory has no room, or where a restarted Triton has forgotten it, the pixels go in the request.

    Where the model's config declares a checksum, no answer is taken that was computed from other pixels.
    """

    def __init__(
        self, client: TritonClient, version: ModelVersion, max_batch_size: int, *, checks: bool = False
    ) -> None:
        self._client = client
        self._version = version
        self._outputs = (DESCRIPTOR, CHECKSUM) if checks else (DESCRIPTOR,)
        self._max_batch_size = max(1, max_batch_size)
        self.objection = ""
        """Why it must not be asked any more; nothing where it may."""
        self._ring: PixelRing | None = None
        self._owned_name: OwnedName | None = None
        self._registering: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls, client: TritonClient, model: str, version: int | None = None, *, shared_memory: bool | None = None
    ) -> Self:
        """A describer for that version, or for the highest that is ready.

        `shared_memory` None tries it where Triton's address is this host. The client stays the caller's to close.
        """
        chosen = await _choose_version(client, model, version)
        config = await client.config(model)
        contract = read_contract(config, chosen)
        checks = contract.checksums and any(output.name == CHECKSUM for output in config.output)
        describer = cls(client, ModelVersion(model, chosen, contract), config.max_batch_size, checks=checks)
        if shared_memory or (shared_memory is None and _is_this_host(client.address)):
            await describer._open_ring()
        return describer

    @property
    def version(self) -> ModelVersion:
        """The version that every answer comes from."""
        return self._version

    @property
    def uses_shared_memory(self) -> bool:
        """Whether pixels go through shared memory just now."""
        return self._ring is not None and self._registering is None

    async def describe(self, pixels: Pixels, *, timeout_s: float | None = None) -> Descriptors:
        """See `ports.Describer`; more images than a batch of the model takes go in several, at the same time."""
        self._check(pixels)
        if self.objection:
            raise ModelMismatch(self.objection)
        step = self._max_batch_size
        chunks = [pixels[first : first + step] for first in range(0, len(pixels), step)]
        if len(chunks) == 1:
            return await self._describe_batch(chunks[0], timeout_s)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._describe_batch(chunk, timeout_s)) for chunk in chunks]
        except ExceptionGroup as errors:  # of several that failed together any one tells why
            raise errors.exceptions[0] from None
        return np.concatenate([task.result() for task in tasks])

    async def close(self) -> None:
        """Lets go of the shared memory, on both sides."""
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

    def _check(self, pixels: Pixels) -> None:
        shape = self._version.contract.input
        wanted = (shape.height_px, shape.width_px, 3)
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != wanted or len(pixels) == 0:
            raise InvalidRequest(
                f"{self._version} takes uint8 pixels of N x {wanted[0]} x {wanted[1]} x 3 with N at least 1, "
                f"not {pixels.dtype} {'x'.join(map(str, pixels.shape))}"
            )

    async def _describe_batch(self, pixels: Pixels, timeout_s: float | None) -> Descriptors:
        ring = self._ring if self.uses_shared_memory else None
        first = ring.take(len(pixels)) if ring is not None else None
        if ring is None or first is None:
            return await self._infer(self._request(pixels.shape, timeout_s, pixels.tobytes()), pixels, timeout_s)
        try:
            ring.write(first, pixels)
            request = self._request(pixels.shape, timeout_s)
            parameters = request.inputs[0].parameters
            parameters["shared_memory_region"].string_param = ring.key
            parameters["shared_memory_byte_size"].int64_param = len(pixels) * ring.cell_bytes
            parameters["shared_memory_offset"].int64_param = first * ring.cell_bytes
            return await self._infer(request, pixels, timeout_s)
        except ModelMismatch as error:
            if "shared memory region" not in str(error):
                raise
        finally:
            ring.give_back(first, len(pixels))
        self._register_again()
        return await self._describe_batch(pixels, timeout_s)

    def _request(
        self, shape: tuple[int, ...], timeout_s: float | None, content: bytes | None = None
    ) -> service_pb2.ModelInferRequest:
        request = service_pb2.ModelInferRequest(
            model_name=self._version.model,
            model_version=str(self._version.version),
            inputs=[service_pb2.ModelInferRequest.InferInputTensor(name=PIXELS, datatype="UINT8", shape=shape)],
            outputs=[service_pb2.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in self._outputs],
            raw_input_contents=[] if content is None else [content],
        )
        if timeout_s is not None:  # Triton's queue drops what nobody waits for any more
            request.parameters["timeout"].int64_param = max(1, int(timeout_s * 1e6))
        return request

    async def _infer(
        self, request: service_pb2.ModelInferRequest, pixels: Pixels, timeout_s: float | None
    ) -> Descriptors:
        answer = await self._client.infer(request, timeout_s)
        contents = {
            output.name: content for output, content in zip(answer.outputs, answer.raw_output_contents, strict=False)
        }
        dimension = self._version.contract.dimension
        content = contents.get(DESCRIPTOR, b"")
        if len(content) % (4 * dimension):
            raise BrokenModel(f"{self._version} promises {dimension} numbers per image and sends others")
        descriptors = np.frombuffer(content, np.float32).reshape(-1, dimension)
        if CHECKSUM in self._outputs and not _is_of(pixels, descriptors, contents.get(CHECKSUM, b"")):
            self._client.distrust()
            raise TritonUnavailable(f"Triton at {self._client.address} answered another request")
        if len(descriptors) != len(pixels):
            raise BrokenModel(
                f"{self._version} answered for {len(descriptors)} images, and was asked for {len(pixels)}"
            )
        lengths = np.linalg.norm(descriptors, axis=1)
        if not np.all(np.abs(lengths - 1) < _UNIT_TOLERANCE):  # written so that NaN fails it
            raise BrokenModel(f"{self._version} answers with a descriptor that is not of unit length")
        return descriptors

    async def _open_ring(self) -> None:
        shape = self._version.contract.input
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
        """A Triton that was restarted knows the region no more: meanwhile pixels go in the requests."""

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


def _is_of(pixels: Pixels, descriptors: Descriptors, told: bytes) -> bool:
    """Whether an answer was computed from these pixels, as the program told."""
    return len(descriptors) == len(pixels) and checksum(pixels, descriptors).tobytes() == told


async def _choose_version(client: TritonClient, model: str, version: int | None) -> int:
    ready = [state.version for state in await client.index() if state.model == model and state.ready]
    served = sorted(number for number in ready if number is not None)
    if not served:
        raise ModelMismatch(f"Triton at {client.address} serves no version of {model}")
    if version is not None and version not in served:
        raise ModelMismatch(f"Triton at {client.address} serves {model} in version {served}, not {version}")
    return served[-1] if version is None else version


def read_contract(config: model_config_pb2.ModelConfig, version: int) -> Contract:
    """Of one version, where the config is as published and carries one that agrees with it.

    ModelMismatch or RepositoryError where it does not.
    """
    key = parameter_key(version)
    if key not in config.parameters:
        raise ModelMismatch(
            f"{config.name}/{version} carries no contract: its config.pbtxt has no parameter {key} "
            "(pspsearch-build publish writes it)"
        )
    check_digest(config)
    contract = Contract.from_json(config.parameters[key].string_value)
    shape = contract.input
    _agree(config, PIXELS, [shape.height_px, shape.width_px, 3], {i.name: list(i.dims) for i in config.input})
    _agree(config, DESCRIPTOR, [contract.dimension], {o.name: list(o.dims) for o in config.output})
    return contract


def _agree(config: model_config_pb2.ModelConfig, name: str, wanted: list[int], offered: dict[str, list[int]]) -> None:
    dims = offered.get(name)
    if dims is None or len(dims) != len(wanted) or any(d not in (-1, w) for d, w in zip(dims, wanted, strict=True)):
        raise ModelMismatch(
            f"the config of {config.name} has {name} {dims}, and its contract promises {wanted}: they disagree"
        )


def _is_this_host(address: str) -> bool:
    host = address.rpartition(":")[0]
    return host in {"localhost", "127.0.0.1", "[::1]"}
