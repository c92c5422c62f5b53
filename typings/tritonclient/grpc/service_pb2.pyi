# What pspsearch uses of the KServe v2 messages; tritonclient ships them without types.
from collections.abc import Iterable, Mapping, MutableMapping, MutableSequence
from typing import Literal

from google.protobuf.message import Message
from tritonclient.grpc.model_config_pb2 import ModelConfig

class ServerReadyRequest(Message): ...

class ServerReadyResponse(Message):
    ready: bool
    def __init__(self, *, ready: bool = ...) -> None: ...

class ServerLiveRequest(Message): ...

class ServerLiveResponse(Message):
    live: bool
    def __init__(self, *, live: bool = ...) -> None: ...

class ServerMetadataRequest(Message): ...

class ServerMetadataResponse(Message):
    name: str
    version: str
    extensions: MutableSequence[str]
    def __init__(self, *, name: str = ..., version: str = ..., extensions: Iterable[str] = ...) -> None: ...

class ModelReadyRequest(Message):
    name: str
    version: str
    def __init__(self, *, name: str = ..., version: str = ...) -> None: ...

class ModelReadyResponse(Message):
    ready: bool
    def __init__(self, *, ready: bool = ...) -> None: ...

class ModelMetadataRequest(Message):
    name: str
    version: str
    def __init__(self, *, name: str = ..., version: str = ...) -> None: ...

class ModelMetadataResponse(Message):
    class TensorMetadata(Message):
        name: str
        datatype: str
        shape: MutableSequence[int]
        def __init__(self, *, name: str = ..., datatype: str = ..., shape: Iterable[int] = ...) -> None: ...

    name: str
    versions: MutableSequence[str]
    platform: str
    inputs: MutableSequence[TensorMetadata]
    outputs: MutableSequence[TensorMetadata]
    def __init__(
        self,
        *,
        name: str = ...,
        versions: Iterable[str] = ...,
        platform: str = ...,
        inputs: Iterable[TensorMetadata] = ...,
        outputs: Iterable[TensorMetadata] = ...,
    ) -> None: ...

class ModelConfigRequest(Message):
    name: str
    version: str
    def __init__(self, *, name: str = ..., version: str = ...) -> None: ...

class ModelConfigResponse(Message):
    config: ModelConfig
    def __init__(self, *, config: ModelConfig = ...) -> None: ...

class StatisticDuration(Message):
    count: int
    ns: int
    def __init__(self, *, count: int = ..., ns: int = ...) -> None: ...

class InferStatistics(Message):
    success: StatisticDuration
    fail: StatisticDuration
    queue: StatisticDuration
    compute_input: StatisticDuration
    compute_infer: StatisticDuration
    compute_output: StatisticDuration
    def __init__(
        self,
        *,
        success: StatisticDuration = ...,
        fail: StatisticDuration = ...,
        queue: StatisticDuration = ...,
        compute_input: StatisticDuration = ...,
        compute_infer: StatisticDuration = ...,
        compute_output: StatisticDuration = ...,
    ) -> None: ...

class ModelStatistics(Message):
    name: str
    version: str
    last_inference: int
    inference_count: int
    execution_count: int
    inference_stats: InferStatistics
    def __init__(
        self,
        *,
        name: str = ...,
        version: str = ...,
        last_inference: int = ...,
        inference_count: int = ...,
        execution_count: int = ...,
        inference_stats: InferStatistics = ...,
    ) -> None: ...

class ModelStatisticsRequest(Message):
    name: str
    version: str
    def __init__(self, *, name: str = ..., version: str = ...) -> None: ...

class ModelStatisticsResponse(Message):
    model_stats: MutableSequence[ModelStatistics]
    def __init__(self, *, model_stats: Iterable[ModelStatistics] = ...) -> None: ...

class RepositoryIndexRequest(Message): ...

class RepositoryIndexResponse(Message):
    class ModelIndex(Message):
        name: str
        version: str
        state: str
        reason: str

    class _Models(MutableSequence[ModelIndex]):
        def add(self, *, name: str = ..., version: str = ..., state: str = ..., reason: str = ...) -> None: ...

    models: _Models

class ModelRepositoryParameter(Message):
    bool_param: bool

class RepositoryModelLoadRequest(Message):
    def __init__(self, *, model_name: str = ...) -> None: ...

class RepositoryModelLoadResponse(Message): ...

class RepositoryModelUnloadRequest(Message):
    def __init__(self, *, model_name: str = ...) -> None: ...

class RepositoryModelUnloadResponse(Message): ...

class SystemSharedMemoryRegisterRequest(Message):
    name: str
    key: str
    def __init__(self, *, name: str = ..., key: str = ..., offset: int = ..., byte_size: int = ...) -> None: ...

class SystemSharedMemoryRegisterResponse(Message): ...

class SystemSharedMemoryUnregisterRequest(Message):
    name: str
    def __init__(self, *, name: str = ...) -> None: ...

class SystemSharedMemoryUnregisterResponse(Message): ...

class InferParameter(Message):
    bool_param: bool
    int64_param: int
    string_param: str
    double_param: float
    uint64_param: int
    def WhichOneof(
        self, oneof_group: str
    ) -> Literal["bool_param", "int64_param", "string_param", "double_param", "uint64_param"] | None: ...

class InferTensorContents(Message):
    fp32_contents: MutableSequence[float]
    bytes_contents: MutableSequence[bytes]

class ModelInferRequest(Message):
    class InferInputTensor(Message):
        name: str
        datatype: str
        shape: MutableSequence[int]
        parameters: MutableMapping[str, InferParameter]
        contents: InferTensorContents
        def __init__(self, *, name: str = ..., datatype: str = ..., shape: Iterable[int] = ...) -> None: ...

    class InferRequestedOutputTensor(Message):
        name: str
        parameters: MutableMapping[str, InferParameter]
        def __init__(self, *, name: str = ...) -> None: ...

    model_name: str
    model_version: str
    id: str
    inputs: MutableSequence[InferInputTensor]
    outputs: MutableSequence[InferRequestedOutputTensor]
    raw_input_contents: MutableSequence[bytes]
    parameters: MutableMapping[str, InferParameter]
    def __init__(
        self,
        *,
        model_name: str = ...,
        model_version: str = ...,
        id: str = ...,
        inputs: Iterable[ModelInferRequest.InferInputTensor] = ...,
        outputs: Iterable[ModelInferRequest.InferRequestedOutputTensor] = ...,
        raw_input_contents: Iterable[bytes] = ...,
        parameters: Mapping[str, InferParameter] = ...,
    ) -> None: ...

class ModelInferResponse(Message):
    class InferOutputTensor(Message):
        name: str
        datatype: str
        shape: MutableSequence[int]

    class _Outputs(MutableSequence[InferOutputTensor]):
        def add(self, *, name: str = ..., datatype: str = ..., shape: Iterable[int] = ...) -> None: ...

    model_name: str
    model_version: str
    id: str
    parameters: MutableMapping[str, InferParameter]
    outputs: _Outputs
    raw_output_contents: MutableSequence[bytes]
    def __init__(self, *, model_name: str = ..., model_version: str = ..., id: str = ...) -> None: ...

class ModelStreamInferResponse(Message):
    error_message: str
    infer_response: ModelInferResponse
    def __init__(self, *, error_message: str = ..., infer_response: ModelInferResponse = ...) -> None: ...

class _Service:
    full_name: str

class _Descriptor:
    services_by_name: Mapping[str, _Service]

DESCRIPTOR: _Descriptor
