# What pspsearch uses of the KServe v2 messages; tritonclient ships them without types.
from collections.abc import Iterable, Mapping, MutableMapping, MutableSequence
from typing import Literal

from google.protobuf.message import Message
from tritonclient.grpc.model_config_pb2 import ModelConfig

class ServerReadyRequest(Message): ...

class ServerReadyResponse(Message):
    ready: bool

class ServerLiveRequest(Message): ...

class ServerLiveResponse(Message):
    live: bool

class ModelReadyRequest(Message):
    def __init__(self, *, name: str = ..., version: str = ...) -> None: ...

class ModelReadyResponse(Message):
    ready: bool

class ModelMetadataRequest(Message):
    def __init__(self, *, name: str = ..., version: str = ...) -> None: ...

class ModelMetadataResponse(Message):
    class TensorMetadata(Message):
        name: str
        datatype: str
        shape: MutableSequence[int]

    name: str
    versions: MutableSequence[str]
    platform: str
    inputs: MutableSequence[TensorMetadata]
    outputs: MutableSequence[TensorMetadata]

class ModelConfigRequest(Message):
    def __init__(self, *, name: str = ..., version: str = ...) -> None: ...

class ModelConfigResponse(Message):
    config: ModelConfig

class RepositoryIndexRequest(Message): ...

class RepositoryIndexResponse(Message):
    class ModelIndex(Message):
        name: str
        version: str
        state: str
        reason: str

    models: MutableSequence[ModelIndex]

class ModelRepositoryParameter(Message):
    bool_param: bool

class RepositoryModelLoadRequest(Message):
    def __init__(self, *, model_name: str = ...) -> None: ...

class RepositoryModelLoadResponse(Message): ...

class RepositoryModelUnloadRequest(Message):
    def __init__(self, *, model_name: str = ...) -> None: ...

class RepositoryModelUnloadResponse(Message): ...

class SystemSharedMemoryRegisterRequest(Message):
    def __init__(self, *, name: str = ..., key: str = ..., offset: int = ..., byte_size: int = ...) -> None: ...

class SystemSharedMemoryRegisterResponse(Message): ...

class SystemSharedMemoryUnregisterRequest(Message):
    def __init__(self, *, name: str = ...) -> None: ...

class SystemSharedMemoryUnregisterResponse(Message): ...

class InferParameter(Message):
    bool_param: bool
    int64_param: int
    string_param: str
    def WhichOneof(self, oneof_group: str) -> Literal["bool_param", "int64_param", "string_param"] | None: ...

class ModelInferRequest(Message):
    class InferInputTensor(Message):
        name: str
        datatype: str
        shape: MutableSequence[int]
        parameters: MutableMapping[str, InferParameter]
        def __init__(self, *, name: str = ..., datatype: str = ..., shape: Iterable[int] = ...) -> None: ...

    class InferRequestedOutputTensor(Message):
        name: str
        def __init__(self, *, name: str = ...) -> None: ...

    model_name: str
    model_version: str
    id: str
    inputs: MutableSequence[InferInputTensor]
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

    model_name: str
    model_version: str
    outputs: MutableSequence[InferOutputTensor]
    raw_output_contents: MutableSequence[bytes]
