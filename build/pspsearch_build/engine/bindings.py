"""The one place that imports TensorRT, so that the rest of the build half works without it."""

from pspsearch_build.errors import BuildError

try:
    import tensorrt as trt  # pyright: ignore[reportMissingModuleSource]  # only a GPU host has more than our stub
except ImportError as error:
    raise BuildError(
        f"TensorRT is not installed here ({error}): run this in NVIDIA's TensorRT container on the GPU host"
    ) from error

__all__ = ["trt"]
