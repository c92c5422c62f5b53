"""A gRPC client for the calls that pspsearch makes to Triton. It translates Triton's errors."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message
from tritonclient.grpc import model_config_pb2, service_pb2
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from pspsearch import traces
from pspsearch.errors import (
    BrokenModel,
    DeadlineExceeded,
    ModelLoadFailed,
    ModelMismatch,
    Overloaded,
    PspsearchError,
    TritonUnavailable,
)

log = logging.getLogger(__name__)

_MAX_MESSAGE_BYTES = 256 << 20
_CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 50),  # a restarted Triton is found within a second
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.enable_http_proxy", 0),
)
_Request = TypeVar("_Request", bound=Message)
_Response = TypeVar("_Response", bound=Message)

_GIVEN_UP = ("Stub process", "health mutex", "gave up this process")
"""Errors with these words mean that Triton gave up a silent Python process. The last is from a program of ours."""
_CONTROL_TIMEOUT_S = 10.0
_CONNECT_S = 0.5
"""How long a call waits while the connection is being made."""
_LOAD_TIMEOUT_S = 300.0
_TELL_S = 10.0


@dataclass(frozen=True, slots=True)
class VersionState:
    """One entry of Triton's repository index."""

    model: str
    version: int | None
    """None if the model has no version loaded."""
    ready: bool
    reason: str
    """Why it is not ready, in Triton's words; may be empty."""


class TritonClient:
    """A channel to one Triton. Any number of tasks of one event loop may use it."""

    def __init__(self, address: str, start_again: Callable[[], None] | None = None) -> None:
        """`start_again` restarts a Triton whose answers can no longer be trusted."""
        self.address = address
        self._start_again = start_again
        self._distrusted = 0
        """How often Triton stopped being trustworthy."""
        self._told = -math.inf
        """When the log last asked an operator to restart Triton."""
        self._channel = grpc.aio.insecure_channel(address, options=_CHANNEL_OPTIONS)
        self._stub = GRPCInferenceServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the channel and cancels the calls under way."""
        await self._channel.close()

    async def wait_until_live(self, timeout_s: float) -> None:
        """Waits until Triton's port is open and it answers. Raises DeadlineExceeded."""
        request = service_pb2.ServerLiveRequest()
        await self._call(self._stub.ServerLive, request, timeout_s, wait_for_ready=True)

    async def index(self) -> list[VersionState]:
        """Lists every model in the repository, with the state of each version that was ever loaded."""
        request = service_pb2.RepositoryIndexRequest()
        answer = await self._call(self._stub.RepositoryIndex, request, _CONTROL_TIMEOUT_S)
        return [
            VersionState(
                model=entry.name,
                version=int(entry.version) if entry.version else None,
                ready=entry.state == "READY",
                reason=entry.reason,
            )
            for entry in answer.models
        ]

    async def load(self, model: str) -> None:
        """Loads the new versions in the model's folder and unloads those removed; the others keep answering.

        Raises ModelLoadFailed.
        """
        request = service_pb2.RepositoryModelLoadRequest(model_name=model)
        try:
            await self._call(self._stub.RepositoryModelLoad, request, _LOAD_TIMEOUT_S)
        except (ModelMismatch, BrokenModel) as error:
            raise ModelLoadFailed(f"Triton cannot load {model}: {error}") from error

    async def config(self, model: str) -> model_config_pb2.ModelConfig:
        """Returns the model's configuration as Triton has it."""
        request = service_pb2.ModelConfigRequest(name=model)
        return (await self._call(self._stub.ModelConfig, request, _CONTROL_TIMEOUT_S)).config

    async def register_shared_memory(self, name: str, key: str, size_bytes: int) -> None:
        """Registers a region of `/dev/shm` with Triton, in place of an earlier one of that name."""
        forget = service_pb2.SystemSharedMemoryUnregisterRequest(name=name)
        await self._call(self._stub.SystemSharedMemoryUnregister, forget, _CONTROL_TIMEOUT_S)
        request = service_pb2.SystemSharedMemoryRegisterRequest(name=name, key=key, byte_size=size_bytes)
        await self._call(self._stub.SystemSharedMemoryRegister, request, _CONTROL_TIMEOUT_S)

    async def unregister_shared_memory(self, name: str) -> None:
        """Makes Triton release a region."""
        request = service_pb2.SystemSharedMemoryUnregisterRequest(name=name)
        await self._call(self._stub.SystemSharedMemoryUnregister, request, _CONTROL_TIMEOUT_S)

    async def infer(
        self, request: service_pb2.ModelInferRequest, timeout_s: float | None
    ) -> service_pb2.ModelInferResponse:
        """Runs one inference. Cancelling the task cancels it in Triton too.

        Raises TritonUnavailable if Triton stopped being trustworthy meanwhile.
        """
        distrusted = self._distrusted
        answer = await self._infer(request, timeout_s)
        if self._distrusted != distrusted:
            raise TritonUnavailable(f"Triton at {self.address} may have answered another request")
        return answer

    async def _infer(
        self, request: service_pb2.ModelInferRequest, timeout_s: float | None
    ) -> service_pb2.ModelInferResponse:
        if self._channel.get_state() is not grpc.ChannelConnectivity.CONNECTING:
            return await self._call(self._stub.ModelInfer, request, timeout_s)
        soon_s = min(_CONNECT_S, timeout_s or _CONNECT_S)
        try:
            return await self._call(self._stub.ModelInfer, request, soon_s)
        except DeadlineExceeded as error:
            if soon_s == timeout_s:
                raise
            raise TritonUnavailable(f"Triton at {self.address} cannot be reached: nobody answers there") from error

    async def _call(
        self,
        method: "grpc.aio.UnaryUnaryMultiCallable[_Request, _Response]",
        request: _Request,
        timeout_s: float | None,
        *,
        wait_for_ready: bool = False,
    ) -> _Response:
        try:
            return await method(request, timeout=timeout_s, metadata=traces.headers(), wait_for_ready=wait_for_ready)
        except grpc.aio.AioRpcError as error:
            if _has_given_up_a_process(error):
                self.distrust()
            raise self._translate(error, timeout_s) from error

    def _translate(self, error: grpc.aio.AioRpcError, timeout_s: float | None) -> PspsearchError:
        """Turns Triton's error into ours. Its codes alone are ambiguous, so its words decide."""
        words = error.details() or error.code().name
        match error.code():
            case grpc.StatusCode.UNAVAILABLE if "timeout expired" in words and timeout_s is not None:
                return DeadlineExceeded("the deadline passed in Triton's queue")
            case grpc.StatusCode.DEADLINE_EXCEEDED:
                return DeadlineExceeded("Triton did not answer before the deadline")
            case grpc.StatusCode.UNAVAILABLE if "maximum queue size" in words or "timeout expired" in words:
                return Overloaded(f"Triton's queue is full: {words}")
            case grpc.StatusCode.UNAVAILABLE if "unknown model" in words:
                return ModelMismatch(f"Triton at {self.address} does not serve it: {words}")
            case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED:
                return TritonUnavailable(f"Triton at {self.address} cannot be reached: {words}")
            case grpc.StatusCode.INTERNAL if _has_given_up_a_process(error):
                return TritonUnavailable(f"Triton at {self.address} has given up a model process: {words}")
            case grpc.StatusCode.NOT_FOUND | grpc.StatusCode.INVALID_ARGUMENT:
                return ModelMismatch(f"Triton at {self.address} refuses the request: {words}")
            case _:
                return BrokenModel(f"Triton at {self.address} failed ({error.code().name}): {words}")

    def distrust(self) -> None:
        """Discards the answers to all calls under way, since each may belong to another request.

        Then restarts Triton, or asks an operator to.

        Triton gives up a Python process that is silent for a second because it died or got no time to compute. If the
        process answers later, Triton takes this for the answer to the next batch. The calls in the abandoned batch get
        an error. If none of them is ours any more, the checksum of a wrong answer reveals it.
        """
        self._distrusted += 1
        if self._start_again is not None:
            self._start_again()
        else:
            self._tell_distrust()

    def _tell_distrust(self) -> None:
        """Asks an operator, at most every `_TELL_S`, to restart Triton: until then every answer may be wrong."""
        now = time.monotonic()
        if now - self._told >= _TELL_S:
            self._told = now
            log.error("Triton at %s may mix up its answers: start it again", self.address)


def _has_given_up_a_process(error: grpc.aio.AioRpcError) -> bool:
    words = error.details() or ""
    return error.code() is grpc.StatusCode.INTERNAL and any(said in words for said in _GIVEN_UP)
