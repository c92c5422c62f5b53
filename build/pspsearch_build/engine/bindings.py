"""Imports TensorRT, and is the only module that does, so that the rest of the build works without it."""

from pspsearch_build.errors import BuildError

try:
    import tensorrt as trt  # pyright: ignore[reportMissingModuleSource]  # without a GPU host there is only our stub
except ImportError as error:
    raise BuildError(
        f"TensorRT is not installed here ({error}): run this in NVIDIA's TensorRT container on the GPU host"
    ) from error

__all__ = ["trt"]
