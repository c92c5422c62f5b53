"""A Triton over real gRPC with one model that looks at colours. It is late, or forgets, when a test says so."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator

import grpc
import grpc.aio
import numpy as np
from tritonclient.grpc import model_config_pb2, service_pb2
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceServicer, add_GRPCInferenceServiceServicer_to_server

from pspsearch.domain import Descriptors, Pixels
from pspsearch.model.contract import DESCRIPTOR, PIXELS, parameter_key
from pspsearch.triton.owned_name import SHARED_MEMORY
from tests.fakes.describer import VERSION, describe_pixels

CHECKSUM = "checksum"
_WORD = (1 << 64) - 1


class ColourTriton(GRPCInferenceServiceServicer):
    """Serves the fake describer's version, with the methods that pspsearch calls."""

    def __init__(self, *, declares: bool = True) -> None:
        """`declares` says whether its model's config declares the checksum."""
        self.declares = declares
        self.asked: list[service_pb2.ModelInferRequest] = []
        self.late: list[Pixels] = []
        """The pixels still to be answered, even if nobody waits for them any more."""
        self.left = 0
        """How many callers left without their answer."""
        self.regions: dict[str, str] = {}
        self.refuses = 0
        """How many registrations fail from now on."""
        self.may_answer = asyncio.Event()
        """Calls wait while it is clear."""
        self.may_answer.set()

    async def ModelConfig(self, _request: object, _context: object) -> service_pb2.ModelConfigResponse:
        """Returns the config, with the contract."""
        contract = {**json.loads(VERSION.contract.to_json()), "checksums": True}
        config = model_config_pb2.ModelConfig(name=VERSION.model, max_batch_size=8)
        config.input.add(name=PIXELS, dims=[32, 32, 3])
        config.output.add(name=DESCRIPTOR, dims=[VERSION.contract.dimension])
        if self.declares:
            config.output.add(name=CHECKSUM, dims=[1])
        config.parameters[parameter_key(1)].string_value = json.dumps(contract)
        return service_pb2.ModelConfigResponse(config=config)

    async def RepositoryIndex(self, _request: object, _context: object) -> service_pb2.RepositoryIndexResponse:
        """Lists the one version."""
        answer = service_pb2.RepositoryIndexResponse()
        answer.models.add(name=VERSION.model, version="1", state="READY")
        return answer

    async def SystemSharedMemoryUnregister(
        self, request: service_pb2.SystemSharedMemoryUnregisterRequest, _context: object
    ) -> service_pb2.SystemSharedMemoryUnregisterResponse:
        """Succeeds also for a region that it does not know."""
        self.regions.pop(request.name, None)
        return service_pb2.SystemSharedMemoryUnregisterResponse()

    async def SystemSharedMemoryRegister(
        self,
        request: service_pb2.SystemSharedMemoryRegisterRequest,
        context: "grpc.aio.ServicerContext[object, object]",
    ) -> service_pb2.SystemSharedMemoryRegisterResponse:
        """Registers the region, unless it refuses."""
        if self.refuses:
            self.refuses -= 1
            await context.abort(grpc.StatusCode.INTERNAL, "not now")
        self.regions[request.name] = request.key
        return service_pb2.SystemSharedMemoryRegisterResponse()

    async def ModelInfer(
        self, request: service_pb2.ModelInferRequest, context: "grpc.aio.ServicerContext[object, object]"
    ) -> service_pb2.ModelInferResponse:
        """Answers with the oldest answer still due."""
        self.asked.append(request)
        region = request.inputs[0].parameters["shared_memory_region"].string_param
        if region and region not in self.regions:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"Unable to find shared memory region: '{region}'")
        self.late.append(self._pixels(request))
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.left += 1
            raise
        return _answer(request, self.late.pop(0))

    def _pixels(self, request: service_pb2.ModelInferRequest) -> Pixels:
        tensor = request.inputs[0]
        if request.raw_input_contents:
            content = request.raw_input_contents[0]
        else:
            first = tensor.parameters["shared_memory_offset"].int64_param
            size = tensor.parameters["shared_memory_byte_size"].int64_param
            path = SHARED_MEMORY / self.regions[tensor.parameters["shared_memory_region"].string_param].lstrip("/")
            content = path.read_bytes()[first : first + size]
        return np.frombuffer(content, np.uint8).reshape(*tensor.shape)


@contextlib.asynccontextmanager
async def serve_triton(triton: ColourTriton) -> AsyncGenerator[str]:
    """Serves while the context lasts; yields the address."""
    server = grpc.aio.server()
    add_GRPCInferenceServiceServicer_to_server(triton, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def checksum_by_hand(pixels: Pixels, descriptors: Descriptors) -> list[int]:
    """Computes the checksum word by word, in unbounded whole numbers."""
    sums: list[int] = []
    for image, descriptor in zip(pixels, descriptors, strict=True):
        parts = [image.tobytes(), descriptor.tobytes()]
        content = b"".join(part + bytes(-len(part) % 8) for part in parts)
        words = [int.from_bytes(content[first : first + 8], "little") for first in range(0, len(content), 8)]
        sums.append(sum(word * _weight(number) for number, word in enumerate(words, 1)) & _WORD)
    return sums


def _weight(number: int) -> int:
    mixed = number * 0x9E3779B97F4A7C15 & _WORD
    return (mixed ^ mixed >> 32) * 0xD6E8FEB86659FD93 & _WORD | 1


def _answer(request: service_pb2.ModelInferRequest, pixels: Pixels) -> service_pb2.ModelInferResponse:
    """Answers in the order of the names, as Triton's Python backend does."""
    rows = [describe_pixels(image) for image in pixels]
    descriptors = np.asarray(rows, np.float32).reshape(len(pixels), VERSION.contract.dimension)
    contents = {
        CHECKSUM: np.asarray(checksum_by_hand(pixels, descriptors), np.uint64).tobytes(),
        DESCRIPTOR: descriptors.tobytes(),
    }
    answer = service_pb2.ModelInferResponse(model_name=request.model_name, model_version=request.model_version)
    for name in sorted(output.name for output in request.outputs):
        answer.outputs.add(name=name, shape=[len(pixels), 1 if name == CHECKSUM else descriptors.shape[1]])
        answer.raw_output_contents.append(contents[name])
    return answer
