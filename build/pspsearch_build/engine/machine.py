"""Checks whether this machine can build and run a plan."""

import torch

from pspsearch_build.errors import BuildError


def require_gpu() -> None:
    """Raises BuildError if CUDA finds no GPU; TensorRT itself would only report a null pointer."""
    if not torch.cuda.is_available():
        raise BuildError("this machine has no GPU that CUDA can use: a plan is built and run on the GPU it is for")
