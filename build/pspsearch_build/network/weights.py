"""Reads weights from a file and loads them into a module."""

from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pspsearch_build.errors import BuildError, WeightsMismatch

_NAMED_KEYS = 3
"""How many misfitting keys an error names."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or .pth file by name. Executes nothing in the file."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if path.suffix == ".pth":
            return _tensors(path, torch.load(path, map_location="cpu", weights_only=True))
    except FileNotFoundError as error:
        raise BuildError(f"{path}: there is no such weights file") from error
    except BuildError:
        raise
    except Exception as error:  # unpickling damaged bytes can raise anything
        raise BuildError(f"{path} cannot be read as weights: {_first_line(error)}") from error
    raise BuildError(f"{path}: weights are read from .safetensors or .pth, not from {path.suffix or 'such a name'!r}")


def load_weights(module: nn.Module, tensors: dict[str, Tensor], source: Path) -> None:
    """Loads tensors with exactly the module's names and shapes. WeightsMismatch names the first that do not fit.

    BatchNorm's count of batches may be missing, because a file for inference needs none.
    """
    wanted = module.state_dict()
    counters = {name: tensor for name, tensor in wanted.items() if name.endswith("num_batches_tracked")}
    tensors = counters | tensors
    misfits = [_misfit(name, wanted.get(name), tensors.get(name)) for name in (wanted | tensors)]
    found = [misfit for misfit in misfits if misfit]
    if found:
        more = f" and {len(found) - _NAMED_KEYS} more" if len(found) > _NAMED_KEYS else ""
        raise WeightsMismatch(f"{source} does not fit the network: {', '.join(found[:_NAMED_KEYS])}{more}")
    module.load_state_dict(tensors)


def _misfit(name: str, wanted: Tensor | None, given: Tensor | None) -> str:
    if given is None:
        return f"{name} is missing"
    if wanted is None:
        return f"{name} is not part of it"
    if given.shape != wanted.shape:
        return f"{name} is {list(given.shape)} where {list(wanted.shape)} is needed"
    return ""


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _tensors(path: Path, loaded: object) -> dict[str, Tensor]:
    if isinstance(loaded, dict):
        entries = cast(dict[object, object], loaded)
        tensors = {
            name: value for name, value in entries.items() if isinstance(name, str) and isinstance(value, Tensor)
        }
        if entries and len(tensors) == len(entries):
            return tensors
    raise BuildError(f"{path} holds no plain dictionary of tensors")
