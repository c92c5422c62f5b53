"""Runs pixels through a plan on the GPU with TensorRT's runtime."""

from pathlib import Path

import torch
from torch import Tensor

from pspsearch.model.contract import PIXELS
from pspsearch_build.engine.bindings import trt
from pspsearch_build.engine.diagnosis import join_reasons
from pspsearch_build.engine.machine import require_gpu
from pspsearch_build.engine.tensorrt_log import TensorRtLog
from pspsearch_build.errors import BuildError
from pspsearch_build.forms import Outputs, Pixels


def run(plan: Path, pixels: Pixels) -> Outputs:
    """Runs one batch; see `run_plan`."""
    require_gpu()
    log = TensorRtLog()
    runtime = trt.Runtime(log)
    runtime.engine_host_code_allowed = True  # a version-compatible plan carries the runtime that understands it
    engine = runtime.deserialize_cuda_engine(_read(plan))
    if engine is None:
        raise BuildError(f"{plan} cannot be loaded by TensorRT {trt.__version__}: {join_reasons(log.errors)}")
    context = engine.create_execution_context()
    if context is None:
        raise BuildError(f"{plan} finds no room on this GPU: {join_reasons(log.errors)}")
    outputs = _require_interface(plan, engine)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        if not context.set_input_shape(PIXELS, pixels.shape):
            raise BuildError(f"{plan} does not take pixels of {pixels.shape}: {join_reasons(log.errors)}")
        tensors = {PIXELS: torch.tensor(pixels, device="cuda")}
        tensors |= {name: _allocate(context.get_tensor_shape(name)) for name in outputs}
        for name, tensor in tensors.items():
            context.set_tensor_address(name, tensor.data_ptr())
        started = context.execute_async_v3(stream.cuda_stream)
    stream.synchronize()
    if not started:
        raise BuildError(f"{plan} does not run: {join_reasons(log.errors)}")
    return {name: tensors[name].cpu().numpy() for name in outputs}


def _read(plan: Path) -> bytes:
    try:
        return plan.read_bytes()
    except OSError as error:
        raise BuildError(f"{plan} cannot be read: {error.strerror}") from error


def _require_interface(plan: Path, engine: trt.ICudaEngine) -> list[str]:
    """The names of the outputs. A plan with other tensors would access memory that was never allocated for it."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    outputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT]
    if set(names) != {PIXELS, *outputs} or engine.get_tensor_dtype(PIXELS) != trt.DataType.UINT8:
        raise BuildError(f"{plan} takes other input than {PIXELS} as uint8")
    for name in outputs:
        if engine.get_tensor_dtype(name) != trt.DataType.FLOAT:
            raise BuildError(f"{plan}: output {name} is not FP32")
    return outputs


def _allocate(shape: trt.Dims) -> Tensor:
    return torch.empty([shape[axis] for axis in range(len(shape))], dtype=torch.float32, device="cuda")
