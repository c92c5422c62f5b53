"""What a descriptor model promises, and how a model version carries that promise.

The contract of version N is one JSON object in the parameters of Triton's `config.pbtxt`, under
`pspsearch.contract.N`: Triton keeps one config per model, not one per version. Any Triton model that turns
pixels, encoded images or texts into FP32 descriptors of unit length plugs in by carrying it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Self, cast

from pspsearch.errors import RepositoryError

PIXELS = "pixels"
"""The input tensor of a model that takes pixels: UINT8 [batch, height, width, 3], RGB."""

IMAGE = "image"
"""The input tensor of a model that decodes by itself: BYTES [batch, 1], each an encoded image as it came."""

TEXT = "text"
"""The input tensor of a model that takes texts: BYTES [batch, 1], UTF-8."""

DESCRIPTOR = "descriptor"
"""The output tensor: FP32 [batch, dimension], unit length."""

CELLS = "cells"
"""The optional second output: FP32 [batch, cells, dimension], one unit descriptor per cell of the pyramid."""

CHECKSUM = "checksum"
"""The optional output that tells what an answer was computed from: UINT64 [batch, 1]; see `model.checksum`."""


PRECISIONS = ("fp32", "fp16", "bf16", "int8")
"""The precisions that a model may compute in."""


class Takes(StrEnum):
    """What a model takes, which is also the name of its input tensor."""

    PIXELS = PIXELS
    IMAGE = IMAGE
    TEXT = TEXT


class Fit(StrEnum):
    """How an image of any shape becomes the model's input rectangle."""

    SQUASH = "squash"
    """The whole image; its aspect ratio is lost."""
    CROP = "crop"
    """The largest centred part with the rectangle's aspect ratio."""
    PAD = "pad"
    """The whole image with its aspect ratio, centred on mid-grey."""


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

    input: InputShape | None
    """None if the model does not take pixels."""
    dimension: int
    precision: str
    """One of PRECISIONS."""
    digest: str
    """sha256 over the files of the version, in hexadecimal."""
    takes: Takes = Takes.PIXELS
    bins: tuple[int, ...] = ()
    """The pyramid of the `cells` output: a level of b x b cells for each b, level by level and row by row."""
    checksums: bool = False
    """Whether its program can answer with the `checksum` output; a config declares it only if every version can."""
    space: str = ""
    """The name of its descriptors' space, which other models may share; empty if the space is its own."""
    earlier_digest: str = ""
    """The digest of the version's first form, if a later program describes as that one did, to the bit."""
    provenance: Mapping[str, str] = field(default_factory=dict[str, str])
    """Where the version comes from, in words for people: network, weights, tool versions."""

    def __post_init__(self) -> None:
        if (self.input is None) is (self.takes is Takes.PIXELS):
            raise RepositoryError("a contract has the size of an input if its model takes pixels, and only then")
        if self.precision not in PRECISIONS:
            raise RepositoryError(f"the precision {self.precision!r} is none of {', '.join(PRECISIONS)}")
        if self.dimension < 1 or any(size < 1 for size in self.bins):
            raise RepositoryError(f"the dimension {self.dimension} and the bins {self.bins} must all be at least 1")

    @property
    def shape(self) -> InputShape:
        """The rectangle that a model takes; only for a model that takes pixels."""
        assert self.input is not None
        return self.input

    @property
    def cells(self) -> int:
        """How many cells each image has; each cell has one descriptor."""
        return sum(size * size for size in self.bins)

    @property
    def fingerprint(self) -> str:
        """Identifies the space and the precision. Descriptors with equal fingerprints may be compared."""
        if self.space:
            return _hash(self.space, self.precision)
        size = (0, 0, "") if self.input is None else (self.input.height_px, self.input.width_px, self.input.fit.value)
        return _hash(self.earlier_digest or self.digest, self.precision, *size)

    def compares_with(self, fingerprint: str) -> bool:
        """Whether descriptors with that fingerprint are in this space, in whatever precision they were computed."""
        shared = (_hash(self.space, precision) for precision in PRECISIONS) if self.space else ()
        return fingerprint in (self.fingerprint, *shared)

    def to_json(self) -> str:
        """The contract on one line, with sorted keys, so that equal contracts are equal text."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what `to_json` wrote; RepositoryError if the text is no contract."""
        try:
            raw = cast(dict[str, Any], json.loads(text))
            return cls(
                input=_read_input(raw["input"]),
                dimension=int(raw["dimension"]),
                precision=str(raw["precision"]),
                digest=str(raw["digest"]),
                takes=Takes(raw.get("takes", Takes.PIXELS)),
                bins=tuple(int(size) for size in raw.get("bins", ())),
                checksums=bool(raw.get("checksums", False)),
                space=str(raw.get("space", "")),
                earlier_digest=str(raw.get("earlier_digest", "")),
                provenance={str(key): str(value) for key, value in raw.get("provenance", {}).items()},
            )
        except (ValueError, TypeError, KeyError, AttributeError, RepositoryError) as error:
            raise RepositoryError(f"not a contract: {error!r} in {text[:120]!r}") from error


def _hash(*parts: str | int) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _read_input(raw: dict[str, Any] | None) -> InputShape | None:
    return None if raw is None else InputShape(int(raw["height_px"]), int(raw["width_px"]), Fit(raw["fit"]))


def parameter_key(version: int) -> str:
    """The key of a version's contract in the parameters of `config.pbtxt`."""
    return f"pspsearch.contract.{version}"
