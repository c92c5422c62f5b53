"""What a descriptor model promises, and how a model version carries that promise.

The contract of version N is one JSON object in the parameters of Triton's `config.pbtxt`, under
`pspsearch.contract.N`: Triton keeps one config per model, not one per version. Any Triton model that turns
UINT8 RGB into a unit FP32 vector plugs in by carrying it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Self, cast

from pspsearch.errors import RepositoryError

PIXELS = "pixels"
"""The input tensor: UINT8 [batch, height, width, 3], RGB."""

DESCRIPTOR = "descriptor"
"""The output tensor: FP32 [batch, dimension], unit length."""

CELLS = "cells"
"""The optional second output: FP32 [batch, cells, dimension], one unit descriptor per pyramid cell."""


CHECKSUM = "checksum"
"""The output of programs that tell what an answer was computed from: UINT64 [batch, 1]; see `model.checksum`."""


class Fit(StrEnum):
    """How an image of any shape becomes the model's input rectangle."""

    SQUASH = "squash"
    """The whole image, aspect ratio given up."""
    CROP = "crop"
    """The largest centred part with the rectangle's aspect ratio."""
    PAD = "pad"
    """The whole image, aspect ratio kept, centred on mid-grey."""


@dataclass(frozen=True, slots=True)
class InputShape:
    """The rectangle that a model takes and how an image is fitted to it."""

    height_px: int
    width_px: int
    fit: Fit = Fit.SQUASH

    def __post_init__(self) -> None:
        if self.height_px < 1 or self.width_px < 1:
            raise RepositoryError(f"an input of {self.height_px}x{self.width_px} px has no pixels")


@dataclass(frozen=True, slots=True)
class Contract:
    """What one model version promises. The score of two descriptors is always their cosine."""

    input: InputShape
    dimension: int
    precision: str
    """What the weights are computed in: `fp32`, `fp16` or `bf16`."""
    digest: str
    """sha256 over the files of the version, in hexadecimal."""
    cells: int = 0
    """How many cell descriptors the `cells` output holds; 0 where the model has none."""
    checksums: bool = False
    """Whether its program can answer with the `checksum` output; a config declares it where every version can."""
    space: str = ""
    """The digest of an earlier form, where this version describes as that one did: then they share the space."""
    provenance: Mapping[str, str] = field(default_factory=dict[str, str])
    """Where the version comes from, in words for people: network, weights, tool versions."""

    @property
    def fingerprint(self) -> str:
        """Names the vector space: two descriptors may be compared only where their fingerprints are equal."""
        space = (
            self.space or self.digest,
            self.precision,
            self.input.height_px,
            self.input.width_px,
            self.input.fit.value,
        )
        return hashlib.sha256(json.dumps(space).encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """One line, keys sorted, so that equal contracts are equal text."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The contract that `to_json` wrote; RepositoryError where the text is none."""
        try:
            raw = cast(dict[str, Any], json.loads(text))
            shape = raw["input"]
            return cls(
                input=InputShape(int(shape["height_px"]), int(shape["width_px"]), Fit(shape["fit"])),
                dimension=int(raw["dimension"]),
                precision=str(raw["precision"]),
                digest=str(raw["digest"]),
                cells=int(raw.get("cells", 0)),
                checksums=bool(raw.get("checksums", False)),
                space=str(raw.get("space", "")),
                provenance={str(key): str(value) for key, value in raw.get("provenance", {}).items()},
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise RepositoryError(f"not a contract: {error!r} in {text[:120]!r}") from error


def parameter_key(version: int) -> str:
    """The key in `config.pbtxt`'s parameters under which a version's contract stands."""
    return f"pspsearch.contract.{version}"
