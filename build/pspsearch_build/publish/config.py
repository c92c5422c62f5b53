"""Makes `config.pbtxt` from typed values, and reads it back with Triton's own ModelConfig message."""

from dataclasses import dataclass
from enum import StrEnum

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from pspsearch.errors import RepositoryError
from pspsearch.model.contract import CELLS, CHECKSUM, DESCRIPTOR, PIXELS, Contract, parameter_key
from pspsearch_build.errors import PublishRefused

_FLAVOUR = "flavour"
"""The parameter that tells the PyTorch flavour of Triton's Python backend from the OpenVINO one."""


class Flavour(StrEnum):
    """What runs a model version in Triton."""

    OPENVINO = "openvino"
    """The Python backend over OpenVINO, on a CPU without a container."""
    ONNXRUNTIME = "onnxruntime"
    """The ONNX Runtime backend of the stock containers."""
    TENSORRT = "tensorrt"
    """A TensorRT engine, on a GPU in the stock containers."""
    TORCH = "torch"
    """The Python backend over PyTorch, on a GPU without TensorRT."""

    @property
    def model_file(self) -> str:
        """The name of the network's file in a version folder."""
        return "model.plan" if self is Flavour.TENSORRT else "model.onnx"

    @property
    def program(self) -> str:
        """The file beside this one that Triton's Python backend runs as `model.py`; empty if the flavour needs none."""
        return {Flavour.OPENVINO: "openvino_model.py", Flavour.TORCH: "torch_model.py"}.get(self, "")


@dataclass(frozen=True, slots=True)
class Batching:
    """How Triton batches requests, and how many may wait."""

    max_batch_size: int = 32
    preferred_batch_sizes: tuple[int, ...] = (8, 16, 32)
    max_queue_delay_us: int = 0
    """How long a request may wait for others while an instance is idle; 0 batches only under load."""
    max_queue_size: int = 256
    """How many requests may wait; more are refused at once."""
    queue_timeout_us: int = 10_000_000
    """How long a request may wait before it is refused; a request may ask for less."""

    def __post_init__(self) -> None:
        if self.max_batch_size < 1 or self.max_queue_size < 1:
            raise PublishRefused("the batch and the queue must take at least one request")
        if any(not 1 <= size <= self.max_batch_size for size in self.preferred_batch_sizes):
            raise PublishRefused(f"preferred batch sizes must lie between 1 and {self.max_batch_size}")


@dataclass(frozen=True, slots=True)
class Instances:
    """How many copies of the model work at the same time."""

    count: int = 2
    """With one, a request that comes just before it is free can lie in Triton's batcher for 500 ms."""


def new_config(
    model: str, flavour: Flavour, contract: Contract, batching: Batching, instances: Instances
) -> pb.ModelConfig:
    """The configuration of a model that has no version yet, complete except for the contract."""
    config = pb.ModelConfig()
    config.name = model
    config.max_batch_size = batching.max_batch_size
    config.default_model_filename = "model.py" if flavour.program else flavour.model_file
    config.version_policy.all.SetInParent()  # the default would retire the version that a live index needs
    _set_flavour(config, flavour, instances)
    _set_tensors(config, contract)
    _set_batching(config, batching)
    for size in sorted({1, *batching.preferred_batch_sizes[:1]}):
        _add_warmup(config, contract, size)
    return config


def add_version(config: pb.ModelConfig, version: int, contract: Contract) -> None:
    """Adds a version's contract; a size in which the versions differ becomes -1."""
    shape = contract.shape
    wanted = {
        PIXELS: [shape.height_px, shape.width_px, 3],
        DESCRIPTOR: [contract.dimension],
        CELLS: [contract.cells, contract.dimension],
        CHECKSUM: [1],
    }
    for tensor in (*config.input, *config.output):
        sizes = wanted[tensor.name]
        merged = [had if had == size else -1 for had, size in zip(tensor.dims, sizes, strict=True)]
        tensor.dims[:] = merged
    if any(size == -1 for tensor in config.input for size in tensor.dims):
        del config.model_warmup[:]  # a warm-up has one size, but the versions have several
    config.parameters[parameter_key(version)].string_value = contract.to_json()


def declare_checksum(config: pb.ModelConfig) -> None:
    """Declares that each version also returns a checksum of its answers.

    Triton no longer loads a version whose program does not.
    """
    if all(output.name != CHECKSUM for output in config.output):
        output = config.output.add()
        output.name, output.data_type = CHECKSUM, pb.TYPE_UINT64
        output.dims[:] = [1]


def flavour_of(config: pb.ModelConfig) -> Flavour | None:
    """The flavour that a configuration runs; None for one that pspsearch did not write."""
    if _FLAVOUR in config.parameters:
        return Flavour(config.parameters[_FLAVOUR].string_value)
    known = {"python": Flavour.OPENVINO, "onnxruntime": Flavour.ONNXRUNTIME}
    return Flavour.TENSORRT if config.platform == "tensorrt_plan" else known.get(config.backend)


def to_text(config: pb.ModelConfig) -> str:
    """The text of `config.pbtxt`, checked to parse back to `config`."""
    text = text_format.MessageToString(config)
    if parse(text, "the new config.pbtxt") != config:
        raise AssertionError("config.pbtxt does not survive its own parser")
    return text


def parse(text: str, name: str) -> pb.ModelConfig:
    """Parses a configuration. RepositoryError names the place if the text is not one."""
    try:
        return text_format.Parse(text, pb.ModelConfig())
    except text_format.ParseError as error:
        raise RepositoryError(f"{name} is not a Triton model configuration: {error}") from error


def _set_flavour(config: pb.ModelConfig, flavour: Flavour, instances: Instances) -> None:
    group = config.instance_group.add()
    group.count = instances.count
    match flavour:
        case Flavour.TENSORRT:
            config.platform = "tensorrt_plan"
            group.kind = pb.ModelInstanceGroup.KIND_GPU
        case Flavour.ONNXRUNTIME:
            config.backend = "onnxruntime"
            group.kind = pb.ModelInstanceGroup.KIND_CPU
        case Flavour.OPENVINO:
            config.backend = "python"
            config.parameters["inference_precision"].string_value = "bf16"
            group.kind = pb.ModelInstanceGroup.KIND_CPU
        case Flavour.TORCH:
            config.backend = "python"
            config.parameters[_FLAVOUR].string_value = flavour.value
            group.kind = pb.ModelInstanceGroup.KIND_AUTO


def _set_tensors(config: pb.ModelConfig, contract: Contract) -> None:
    pixels = config.input.add()
    pixels.name, pixels.data_type = PIXELS, pb.TYPE_UINT8
    pixels.dims[:] = [contract.shape.height_px, contract.shape.width_px, 3]
    outputs = {DESCRIPTOR: [contract.dimension]}
    if contract.cells:
        outputs[CELLS] = [contract.cells, contract.dimension]
    for name, dims in outputs.items():
        output = config.output.add()
        output.name, output.data_type = name, pb.TYPE_FP32
        output.dims[:] = dims


def _set_batching(config: pb.ModelConfig, batching: Batching) -> None:
    dynamic = config.dynamic_batching
    dynamic.preferred_batch_size[:] = list(batching.preferred_batch_sizes)
    dynamic.max_queue_delay_microseconds = batching.max_queue_delay_us
    policy = dynamic.default_queue_policy
    policy.timeout_action = pb.ModelQueuePolicy.REJECT
    policy.default_timeout_microseconds = batching.queue_timeout_us
    policy.allow_timeout_override = True
    policy.max_queue_size = batching.max_queue_size


def _add_warmup(config: pb.ModelConfig, contract: Contract, size: int) -> None:
    warmup = config.model_warmup.add()
    warmup.name, warmup.batch_size = f"batch of {size}", size
    pixels = warmup.inputs[PIXELS]
    pixels.data_type, pixels.random_data = pb.TYPE_UINT8, True
    pixels.dims[:] = [contract.shape.height_px, contract.shape.width_px, 3]
