"""Runs TensorRT's builder: parses ONNX, configures, compiles a plan."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from pspsearch.model.contract import PIXELS
from pspsearch_build.atomic_file import replacing
from pspsearch_build.engine.bindings import trt
from pspsearch_build.engine.diagnosis import NodeError, explain_build_failure, explain_parse_failure, join_reasons
from pspsearch_build.engine.machine import require_gpu
from pspsearch_build.engine.monitor import Monitor
from pspsearch_build.engine.phase_bars import PhaseBars
from pspsearch_build.engine.settings import EngineSettings, Shape, needs_strong_typing_flag, profile_shapes
from pspsearch_build.engine.tensorrt_log import TensorRtLog
from pspsearch_build.errors import BuildError


def compile_plan(onnx: Path, settings: EngineSettings, bars: PhaseBars) -> bytes:
    """The plan for this TensorRT and this GPU; takes minutes. The timing cache, if there is one, is then on disk."""
    require_gpu()
    log, monitor = TensorRtLog(), Monitor(bars)
    builder = _start(log)
    network = builder.create_network(_network_flags())
    parser = trt.OnnxParser(network, log)  # owns the network's weights, so it must live until the plan is built
    _parse(parser, onnx)
    config = _configure(builder, network, settings)
    config.progress_monitor = monitor
    with _timing_cache(config, settings.timing_cache):
        plan = builder.build_serialized_network(network, config)
        if monitor.interrupted:
            raise KeyboardInterrupt
        if plan is None:
            raise BuildError(explain_build_failure(onnx, log.errors, settings.workspace_mib))
    return bytes(plan)


def _start(log: TensorRtLog) -> trt.Builder:
    try:
        return trt.Builder(log)
    except (TypeError, RuntimeError) as error:  # the bindings report a null pointer as TypeError
        reason = join_reasons(log.errors)
        raise BuildError(f"TensorRT {trt.__version__} cannot use this machine's GPU: {reason}") from error


def _network_flags() -> int:
    if needs_strong_typing_flag(trt.__version__):
        return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    return 0


def _parse(parser: trt.OnnxParser, onnx: Path) -> None:
    if parser.parse_from_file(os.fspath(onnx)):
        return
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    nodes = [NodeError(error.node_name(), error.node_operator(), error.desc()) for error in errors]
    raise BuildError(explain_parse_failure(onnx, nodes))


def _configure(builder: trt.Builder, network: trt.INetworkDefinition, settings: EngineSettings) -> trt.IBuilderConfig:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_mib << 20)
    config.builder_optimization_level = settings.optimization_level
    if settings.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if settings.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    profile = builder.create_optimization_profile()
    shape = _pixels_shape(network)
    smallest, usual, largest = profile_shapes(shape, settings.batches)
    profile.set_shape(PIXELS, smallest, usual, largest)
    if config.add_optimization_profile(profile) < 0:
        raise BuildError(f"TensorRT refuses batches {settings.batches} for an input of {shape}")
    return config


def _pixels_shape(network: trt.INetworkDefinition) -> Shape:
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    shape = next(tensor.shape for tensor in inputs if tensor.name == PIXELS)
    return tuple(shape[axis] for axis in range(len(shape)))


@contextmanager
def _timing_cache(config: trt.IBuilderConfig, path: Path | None) -> Generator[None]:
    """Lends the build the measurements in `path`, and saves what the build added; after a failure, saves nothing."""
    if path is None:
        yield
        return
    with replacing(path) as temporary:  # entered before the build, so that a missing folder shows at once
        cache = config.create_timing_cache(path.read_bytes() if path.exists() else b"")
        if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
            raise BuildError(f"{path} is no timing cache of this TensorRT and GPU: name another file, or remove it")
        yield
        temporary.write_bytes(config.get_timing_cache().serialize())
