"""What an exported file says about itself: enough for the steps after export, without torch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

import onnx
from google.protobuf.message import DecodeError

from pspsearch_build.errors import BuildError
from pspsearch_build.network.spec import NetworkSpec

_SPEC, _PRECISION, _PROVENANCE = "pspsearch.spec", "pspsearch.precision", "pspsearch.provenance"


class Precision(StrEnum):
    """The precision in which an exported file computes its convolutions."""

    FP32 = "fp32"
    FP16 = "fp16"


@dataclass(frozen=True, slots=True)
class OnnxFacts:
    """The metadata of an exported file."""

    spec: NetworkSpec
    precision: Precision
    provenance: Mapping[str, str] = field(default_factory=dict[str, str])


def load_onnx(path: Path) -> onnx.ModelProto:
    """Loads the file. Raises BuildError if it does not exist or is not ONNX."""
    try:
        return onnx.load(path, load_external_data=False)
    except FileNotFoundError as error:
        raise BuildError(f"{path}: there is no such ONNX file") from error
    except (OSError, DecodeError) as error:
        raise BuildError(f"{path} cannot be read as ONNX: {error}") from error


def read_onnx_facts(path: Path) -> OnnxFacts:
    """Reads what `write_onnx_facts` wrote. Raises BuildError if the file is not an export of a descriptor network."""
    metadata = {entry.key: entry.value for entry in load_onnx(path).metadata_props}
    try:
        provenance = cast(dict[str, Any], json.loads(metadata[_PROVENANCE]))
        return OnnxFacts(
            NetworkSpec.from_json(metadata[_SPEC]),
            Precision(metadata[_PRECISION]),
            {str(key): str(value) for key, value in provenance.items()},
        )
    except (ValueError, KeyError, AttributeError) as error:
        raise BuildError(
            f"{path} was not written by `pspsearch-build export`, or `adapt` for a network of another maker: {error}"
        ) from error


def write_onnx_facts(model: onnx.ModelProto, facts: OnnxFacts) -> None:
    """Adds the facts to the model's metadata, in a fixed order."""
    provenance = json.dumps(dict(facts.provenance), sort_keys=True)
    onnx.helper.set_model_props(
        model, {_SPEC: facts.spec.to_json(), _PRECISION: facts.precision.value, _PROVENANCE: provenance}
    )
