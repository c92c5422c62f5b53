"""The words of pspsearch as types."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum
from math import nan
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pspsearch.errors import InvalidRequest
from pspsearch.model.contract import Contract

DEFAULT_COLLECTION = "default"
"""The collection of a call that names none."""

Pixels = NDArray[np.uint8]
"""Decoded RGB: height x width x 3 for one image, with a leading axis for several."""

Descriptor = NDArray[np.float32]
"""One descriptor: float32, of unit length."""

Descriptors = NDArray[np.float32]
"""Unit-length rows, one per image: count x dimension."""

Inputs = Pixels | Sequence[bytes] | Sequence[str]
"""What a model can describe: pixels, encoded images or texts, one or more of one kind."""

StoredDescriptor = NDArray[np.float16]
"""One descriptor as the catalog and the index keep it."""

Sequences = NDArray[np.int64]
"""Numbers of changes; each names one row for ever."""


class Area(NamedTuple):
    """A rectangle in an upright picture, in fractions of its width and height from its left upper corner."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True)
class CellPair:
    """A cell of the query's picture and a cell of the item's, each of which is most like the other."""

    query: Area
    item: Area
    score: float
    """The cosine of their descriptors, from -1 to 1."""


class Urgency(IntEnum):
    """For whom an image is described. Where images wait, those of lower numbers go first."""

    SEARCH = 0
    WRITE = 1
    ROLLOUT = 2


@dataclass(frozen=True, slots=True)
class Described:
    """What a model answers."""

    descriptors: Descriptors
    cells: NDArray[np.float32] | None = None
    """The descriptors of each image's cells, count x cells x dimension; None unless asked for."""


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One numbered version of a Triton model, with what it promises."""

    model: str
    version: int
    contract: Contract

    def __str__(self) -> str:
        return f"{self.model}/{self.version}"

    def check_pixels(self, pixels: Pixels) -> None:
        """Raises InvalidRequest unless they are one or more images of the size that the model takes."""
        shape = self.contract.shape
        wanted = (shape.height_px, shape.width_px, 3)
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != wanted or len(pixels) == 0:
            raise InvalidRequest(
                f"{self} takes uint8 pixels of N x {wanted[0]} x {wanted[1]} x 3 with N at least 1, "
                f"not {pixels.dtype} {'x'.join(map(str, pixels.shape))}"
            )

    def made(self, generation: "Generation") -> bool:
        """Whether this version made the generation's descriptors, or one whose files and precision are the same."""
        if generation.fingerprint != self.contract.fingerprint:
            return False
        return not self.contract.space or (generation.model, generation.version) == (self.model, self.version)


@dataclass(frozen=True, slots=True)
class OfferedVersion:
    """A numbered version in the model repository."""

    version: int
    contract: Contract | None
    """None if it has none that can be read."""
    reason: str = ""
    """Why it cannot describe anything; empty if it can."""


class IndexKind(StrEnum):
    """How the descriptors of a collection are searched."""

    AUTO = "auto"
    """Chosen by size, dimension, memory and device."""
    EXACT = "exact"
    IVF = "ivf"
    HNSW = "hnsw"


@dataclass(frozen=True, slots=True)
class CollectionSettings:
    """What is chosen when a collection is created, and never changes."""

    model: str
    keep_images: bool = True
    index_kind: IndexKind = IndexKind.AUTO
    target_recall: float = 0.95


@dataclass(frozen=True, slots=True)
class Collection:
    """A named set of items under one descriptor model."""

    key: int
    """Its number in the catalog, which is never used again."""
    name: str
    settings: CollectionSettings
    created: datetime
    follows: bool = False
    """Whether it moves to new versions of its model by itself."""


@dataclass(frozen=True, slots=True)
class Generation:
    """One collection under one model version."""

    key: int
    """Its number in the catalog, which is never used again."""
    collection: int
    model: str
    version: int
    fingerprint: str
    dimension: int


class GenerationState(StrEnum):
    """Where a generation is in its life."""

    BUILDING = "building"
    """Its items are being described, its index is being built, or it waits to be promoted."""
    ACTIVE = "active"
    """It answers searches; every collection has exactly one."""
    KEPT = "kept"
    """It was active, and is kept up to date so that it can be active again."""
    RETIRED = "retired"
    FAILED = "failed"
    """It was never active."""


class RolloutStage(StrEnum):
    """The stage of a rollout, which takes a collection to another model version."""

    DESCRIBING = "describing"
    """The stored images are described by the new version."""
    INDEXING = "indexing"
    CHECKING = "checking"
    READY = "ready"
    """It waits to be promoted, and follows all writes."""
    PROMOTED = "promoted"
    FAILED = "failed"
    """It has ended; the generation that answered before goes on answering."""


@dataclass(frozen=True, slots=True)
class GenerationRecord:
    """What the catalog knows of a generation, living or ended."""

    generation: Generation
    state: GenerationState
    details: str
    """A JSON object that tells of its rollout."""
    created: datetime
    changed: datetime
    """When its state last changed."""


@dataclass(frozen=True, slots=True)
class Lacking:
    """How many items have no descriptor in a generation."""

    with_image: int
    """Those whose image is kept, so that it can be described."""
    without_image: int
    sequence: int
    """The last change that was counted."""


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What is known of an encoded image, without its bytes."""

    media_type: str
    width_px: int
    """Of the upright image, as is the height."""
    height_px: int
    size_bytes: int
    sha256: str
    """In hexadecimal."""
    kept: bool
    """Whether the catalog keeps the bytes."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that can be found."""

    key: int
    """Ascends in the order in which ids are first put in; an id that is deleted and put in again gets another one."""
    id: str
    attributes: str
    """A JSON object."""
    image: ImageInfo | None
    """None if the item was put in as a descriptor."""
    created: datetime
    updated: datetime
    sequence: int
    """The sequence of its last change."""


@dataclass(frozen=True, slots=True)
class Upsert:
    """An item to write, already described."""

    id: str
    descriptor: StoredDescriptor | None
    """In the generation's space; None keeps the item's descriptors, and its image with them."""
    attributes: str | None
    """A JSON object; None keeps the item's attributes, and is `{}` for a new item."""
    info: ImageInfo | None = None
    """With a descriptor: the new image, or None for an item without one. Without: the image that the item must already
    have, described by the active generation, and kept if `kept` says so."""
    image: bytes | None = None
    """The bytes to keep; None to keep none."""
    others: Mapping[int, StoredDescriptor] = field(default_factory=dict[int, StoredDescriptor])
    """With a descriptor: the image's descriptors in the spaces of other generations, by their keys."""


@dataclass(frozen=True, slots=True)
class Filling:
    """A descriptor that an item lacks in some generation."""

    key: int
    """The key of the item."""
    sha256: str
    """The digest of the image that was described, in hexadecimal."""
    descriptor: StoredDescriptor


@dataclass(frozen=True, slots=True)
class Delete:
    """An item to delete; one that is not there is no error."""

    id: str
    still: Callable[[str], bool] | None = None
    """Must hold for the item's attributes, a JSON object, at the moment of deletion, because they may have changed."""
    key: int | None = None
    """The key of the item that is meant: another item that was put in under that id since then stays."""
    sequence: int | None = None
    """The sequence of the item's change for which `still` is known to hold, so that it is not called again."""


class Outcome(StrEnum):
    """What became of a write."""

    CREATED = "created"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"
    DELETED = "deleted"
    ABSENT = "absent"
    """There was nothing to delete, or no item whose attributes alone could change."""


@dataclass(frozen=True, slots=True)
class Written:
    """The acknowledgement of one write: it is on disk."""

    outcome: Outcome
    sequence: int
    """The sequence of the change; if nothing changed, of the item's last one, or 0 if there is no item."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """How far the deletion of many items has come; it goes in portions, each durable."""

    last_key: int
    """The last key when the deletion was asked for; items with later ones stay."""
    deleted: int = 0
    sequence: int = 0
    """The sequence of its last change."""
    is_done: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One state of one item, as an index knows it. A changed item is another row."""

    sequence: int
    """Names the row; a later row has a higher one."""
    key: int
    """The key of the item."""
    id: str
    attributes: str
    """A JSON object."""
    descriptor: StoredDescriptor


@dataclass(frozen=True, slots=True)
class Commit:
    """What one committed transaction did to one generation of a collection."""

    collection: int
    generation: int
    added: tuple[Row, ...] = ()
    """The new rows, by ascending sequence."""
    removed: tuple[int, ...] = ()
    """The sequences of rows that are gone: deleted, or replaced by one in `added`."""


@dataclass(frozen=True, slots=True)
class Found:
    """The rows nearest to one query, best first; rows with equal scores are in ascending sequence."""

    sequences: Sequences
    ids: list[str]
    scores: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Matched:
    """Rows of an index, as of one moment, by ascending key."""

    keys: NDArray[np.int64]
    """The keys of the items."""
    sequences: Sequences


@dataclass(frozen=True, slots=True)
class IndexState:
    """How an index stands."""

    plan: str
    """What was built, in words."""
    rows: int
    """How many rows can be found."""
    sequence: int
    """The sequence of the last row that searches see, even if that row is gone."""
    measured_recall: float
    """The share of the true ten nearest that was found when the base was built; 1 if the base is exact."""
    size_bytes: int
    """How much memory it takes."""
    fresh: int
    """How many rows are newer than the base."""
    tombstones: int
    """How many rows of the base are gone."""
    background: str = field(default="")
    """What is being built, with its progress; empty if nothing is."""
    live_recall: float = nan
    """The share that live searches found lately, of those that were repeated exactly; not a number if none was."""
