"""What a network's file promises before it is a version: enough to run it without knowing its layers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, cast

import onnx

from pspsearch.model.contract import CELLS, DESCRIPTOR, Fit, InputShape
from pspsearch_build.errors import BuildError
from pspsearch_build.network.onnx_facts import OnnxFacts, Precision, load_onnx, read_onnx_facts
from pspsearch_build.network.spec import NetworkSpec

_PROMISE = "pspsearch.promise"
"""The metadata key in another maker's network."""


@dataclass(frozen=True, slots=True)
class Promise:
    """What a network takes and gives."""

    input: InputShape
    dimension: int
    precision: Precision
    bins: tuple[int, ...] = ()
    """The bins of the pyramid whose cells are the second output; empty if there is no such output."""
    provenance: Mapping[str, str] = field(default_factory=dict[str, str])
    spec: NetworkSpec | None = None
    """The network's layers; None for another maker's network."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs, in order."""
        return (DESCRIPTOR, CELLS) if self.bins else (DESCRIPTOR,)

    @classmethod
    def of_facts(cls, facts: OnnxFacts) -> Self:
        """The promise of one of our own networks."""
        spec = facts.spec
        bins = spec.bins if spec.cells else ()
        return cls(spec.input, spec.dimension, facts.precision, bins, facts.provenance, spec)


def read_promise(path: Path) -> Promise:
    """Reads the promise of a file that `export` or `adapt` wrote. Raises BuildError for any other file."""
    metadata = {entry.key: entry.value for entry in load_onnx(path).metadata_props}
    if _PROMISE not in metadata:
        return Promise.of_facts(read_onnx_facts(path))
    try:
        raw = cast(dict[str, Any], json.loads(metadata[_PROMISE]))
        shape = InputShape(int(raw["height_px"]), int(raw["width_px"]), Fit(raw["fit"]))
        return Promise(shape, int(raw["dimension"]), Precision(raw["precision"]), provenance=dict(raw["provenance"]))
    except (ValueError, TypeError, KeyError) as error:
        raise BuildError(f"{path} was not written by `pspsearch-build adapt`: {error!r}") from error


def write_promise(model: onnx.ModelProto, promise: Promise) -> None:
    """Writes the promise into the metadata of another maker's network, which has no cells."""
    told = {
        "height_px": promise.input.height_px,
        "width_px": promise.input.width_px,
        "fit": promise.input.fit.value,
        "dimension": promise.dimension,
        "precision": promise.precision.value,
        "provenance": dict(promise.provenance),
    }
    onnx.helper.set_model_props(model, {_PROMISE: json.dumps(told, sort_keys=True)})
