"""A network on disk: one safetensors file with the weights, the spec and the provenance."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, cast

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from pspsearch_build.atomic_file import replacing
from pspsearch_build.errors import BuildError
from pspsearch_build.network.descriptor_network import DescriptorNetwork, build_network
from pspsearch_build.network.spec import NetworkSpec
from pspsearch_build.network.weights import load_weights, read_weights

_KEY = "pspsearch"
"""The only entry of the file's metadata; with several, their order, and so the file's bytes, would vary."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A network and its provenance, in words for people: data, recipe, tool versions."""

    network: DescriptorNetwork
    provenance: Mapping[str, str] = field(default_factory=dict[str, str])

    def save(self, path: Path) -> None:
        """Writes the file atomically and durably, replacing an older one of that name."""
        about = {"spec": self.network.spec.to_json(), "provenance": dict(self.provenance)}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.network.state_dict().items()}
        with replacing(path) as temporary:
            temporary.write_bytes(save(tensors, metadata={_KEY: json.dumps(about, sort_keys=True)}))

    @classmethod
    def load(cls, path: Path) -> Self:
        """The network in eval mode on the CPU. BuildError or WeightsMismatch names a file that is not a checkpoint."""
        tensors = read_weights(path)
        spec, provenance = _read_about(path)
        network = build_network(spec)
        load_weights(network, tensors, path)
        return cls(network, provenance)


def _read_about(path: Path) -> tuple[NetworkSpec, dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            about = cast(dict[str, Any], json.loads((file.metadata() or {})[_KEY]))
        return NetworkSpec.from_json(about["spec"]), {str(k): str(v) for k, v in about["provenance"].items()}
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise BuildError(f"{path} is not a checkpoint of a descriptor network: it says nothing of its spec") from error
