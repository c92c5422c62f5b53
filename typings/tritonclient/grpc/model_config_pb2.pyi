# What pspsearch uses of Triton's ModelConfig; tritonclient ships it without types.
from collections.abc import Iterable, MutableMapping, MutableSequence

from google.protobuf.message import Message

TYPE_UINT8: int
TYPE_UINT64: int
TYPE_FP32: int
TYPE_STRING: int

class ModelInput(Message):
    name: str
    data_type: int
    dims: MutableSequence[int]
    optional: bool

class ModelOutput(Message):
    name: str
    data_type: int
    dims: MutableSequence[int]

class ModelParameter(Message):
    string_value: str

class ModelQueuePolicy(Message):
    REJECT: int
    DELAY: int
    timeout_action: int
    default_timeout_microseconds: int
    allow_timeout_override: bool
    max_queue_size: int

class ModelDynamicBatching(Message):
    preferred_batch_size: MutableSequence[int]
    max_queue_delay_microseconds: int
    default_queue_policy: ModelQueuePolicy

class ModelInstanceGroup(Message):
    KIND_AUTO: int
    KIND_GPU: int
    KIND_CPU: int
    name: str
    kind: int
    count: int

class ModelVersionPolicy(Message):
    class Latest(Message):
        num_versions: int

    class All(Message):
        def SetInParent(self) -> None: ...

    class Specific(Message):
        versions: MutableSequence[int]

    latest: Latest
    all: All
    specific: Specific
    def WhichOneof(self, oneof_group: str) -> str | None: ...

class ModelWarmup(Message):
    class Input(Message):
        data_type: int
        dims: MutableSequence[int]
        zero_data: bool
        random_data: bool

    name: str
    batch_size: int
    count: int
    inputs: MutableMapping[str, Input]

class ModelOperations(Message):
    op_library_filename: MutableSequence[str]

class ModelOptimizationPolicy(Message):
    class PinnedMemoryBuffer(Message):
        enable: bool

    input_pinned_memory: PinnedMemoryBuffer
    output_pinned_memory: PinnedMemoryBuffer

class _Inputs(MutableSequence[ModelInput]):
    def add(
        self, *, name: str = ..., data_type: int = ..., dims: Iterable[int] = ..., optional: bool = ...
    ) -> ModelInput: ...

class _Outputs(MutableSequence[ModelOutput]):
    def add(self, *, name: str = ..., data_type: int = ..., dims: Iterable[int] = ...) -> ModelOutput: ...

class _InstanceGroups(MutableSequence[ModelInstanceGroup]):
    def add(self) -> ModelInstanceGroup: ...

class _Warmups(MutableSequence[ModelWarmup]):
    def add(self) -> ModelWarmup: ...

class ModelConfig(Message):
    name: str
    platform: str
    backend: str
    max_batch_size: int
    default_model_filename: str
    version_policy: ModelVersionPolicy
    dynamic_batching: ModelDynamicBatching
    input: _Inputs
    output: _Outputs
    instance_group: _InstanceGroups
    model_warmup: _Warmups
    parameters: MutableMapping[str, ModelParameter]
    model_operations: ModelOperations
    optimization: ModelOptimizationPolicy
    def __init__(self, *, name: str = ..., platform: str = ..., max_batch_size: int = ...) -> None: ...
