"""The words of pspsearch as types."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from math import nan

import numpy as np
from numpy.typing import NDArray

from pspsearch.model.contract import Contract

DEFAULT_COLLECTION = "default"
"""The one that a call is about which names none."""

Pixels = NDArray[np.uint8]
"""Decoded RGB: height x width x 3 for one image, with a leading axis for several."""

Descriptor = NDArray[np.float32]
"""One of unit length."""

Descriptors = NDArray[np.float32]
"""Unit-length rows, one per image: count x dimension."""

Inputs = Pixels | Sequence[bytes] | Sequence[str]
"""What is to be described: pixels, encoded images or texts, one or more of one kind."""

StoredDescriptor = NDArray[np.float16]
"""One descriptor as the catalog and the index keep it."""

Sequences = NDArray[np.int64]
"""Numbers of changes, each the name of one row for ever."""


@dataclass(frozen=True, slots=True)
class Described:
    """What a model answers."""

    descriptors: Descriptors
    cells: NDArray[np.float32] | None = None
    """Of each image its cells' descriptors, count x cells x dimension; None unless asked for."""


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One numbered version of a Triton model, with what it promises."""

    model: str
    version: int
    contract: Contract

    def __str__(self) -> str:
        return f"{self.model}/{self.version}"


@dataclass(frozen=True, slots=True)
class OfferedVersion:
    """A numbered version in the model repository."""

    version: int
    contract: Contract | None
    """None where it has none that can be read."""
    reason: str = ""
    """Why nothing can be described with it; empty where that can be."""


class IndexKind(StrEnum):
    """How the descriptors of a collection are searched."""

    AUTO = "auto"
    """By size, dimension, memory and device."""
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
    """Its number in the catalog; never used again."""
    name: str
    settings: CollectionSettings
    created: datetime
    follows: bool = False
    """Whether it is taken to new versions of its model by itself."""


@dataclass(frozen=True, slots=True)
class Generation:
    """One collection under one model version."""

    key: int
    """Its number in the catalog; never used again."""
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
    """It answers; every collection has exactly one."""
    KEPT = "kept"
    """It was active, and is kept up to date so that it can be again."""
    RETIRED = "retired"
    FAILED = "failed"
    """It never was active."""


class RolloutStage(StrEnum):
    """Where a rollout is: a collection on its way to another model version."""

    DESCRIBING = "describing"
    """The stored images are described by the new version."""
    INDEXING = "indexing"
    CHECKING = "checking"
    READY = "ready"
    """It waits to be promoted, and follows all writes."""
    PROMOTED = "promoted"
    FAILED = "failed"
    """It has ended; what answered before goes on answering."""


@dataclass(frozen=True, slots=True)
class GenerationRecord:
    """What the catalog knows of a generation, living or ended."""

    generation: Generation
    state: GenerationState
    details: str
    """A JSON object: what its rollout has to tell of it."""
    created: datetime
    changed: datetime
    """Its state."""


@dataclass(frozen=True, slots=True)
class Lacking:
    """How many items have no descriptor in a generation."""

    with_image: int
    """Whose image is kept, so that it can be described."""
    without_image: int
    sequence: int
    """The last change that was counted."""


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What an encoded image is, without its bytes."""

    media_type: str
    width_px: int
    """Upright, as is the height."""
    height_px: int
    size_bytes: int
    sha256: str
    """In hexadecimal."""
    kept: bool
    """Whether the catalog has the bytes."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that can be found."""

    key: int
    """In the order in which ids were first put in; an id that is deleted and put in again gets another one."""
    id: str
    attributes: str
    """A JSON object."""
    image: ImageInfo | None
    """None where the item was put in as a descriptor."""
    created: datetime
    updated: datetime
    sequence: int
    """Of its last change."""


@dataclass(frozen=True, slots=True)
class Upsert:
    """An item to write, already described."""

    id: str
    descriptor: StoredDescriptor | None
    """In the generation's space; None keeps those that are there, and the image with them."""
    attributes: str | None
    """A JSON object; None keeps those that are there, and is `{}` for a new item."""
    info: ImageInfo | None = None
    """With a descriptor: what becomes of the image, None for an item without one. Without: which one must be there,
    described, and kept if it is to be."""
    image: bytes | None = None
    """The bytes to keep; None where they are not to be kept."""
    others: Mapping[int, StoredDescriptor] = field(default_factory=dict[int, StoredDescriptor])
    """With a descriptor: the image's in the spaces of other generations, by their keys."""


@dataclass(frozen=True, slots=True)
class Filling:
    """A descriptor that an item lacks in some generation."""

    key: int
    """Of the item."""
    sha256: str
    """Of the image that was described."""
    descriptor: StoredDescriptor


@dataclass(frozen=True, slots=True)
class Delete:
    """An item to take out; one that is not there is no error."""

    id: str
    still: Callable[[str], bool] | None = None
    """What must hold for its attributes, a JSON object, in the moment when it goes: it may have changed."""
    key: int | None = None
    """Of the item that is meant: another one that was put in under that id since stays."""
    sequence: int | None = None
    """Of the item's change for which `still` is known to hold, so that it is not asked again."""


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
    """Of the change; where nothing changed, of the item's last one, or 0 where there is no item."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """How far the deletion of many items has come: it goes in portions, each durable."""

    last_key: int
    """Of the items that there were when it was asked for; later ones stay."""
    deleted: int = 0
    sequence: int = 0
    """Of its last change."""
    is_done: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One state of one item, as an index knows it. A changed item is another row."""

    sequence: int
    """Names the row; a later row has a higher one."""
    key: int
    """Of the item."""
    id: str
    attributes: str
    """A JSON object."""
    descriptor: StoredDescriptor


@dataclass(frozen=True, slots=True)
class Commit:
    """What one committed transaction did to one collection."""

    collection: int
    generation: int
    added: tuple[Row, ...] = ()
    """By ascending sequence."""
    removed: tuple[int, ...] = ()
    """The sequences of rows that are no more: deleted, or replaced by one that is added."""


@dataclass(frozen=True, slots=True)
class Found:
    """The rows nearest to one query, best first; of equal scores the lower sequence first."""

    sequences: Sequences
    ids: list[str]
    scores: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Matched:
    """Rows of an index, as of one moment, by ascending key."""

    keys: NDArray[np.int64]
    """Of the items."""
    sequences: Sequences


@dataclass(frozen=True, slots=True)
class IndexState:
    """How an index stands."""

    plan: str
    """What was built, in words."""
    rows: int
    """That can be found."""
    sequence: int
    """Of the last row that searches see, dead or alive."""
    measured_recall: float
    """Of the true ten nearest, the share that was found when the base was built; 1 where it is exact."""
    size_bytes: int
    """In memory."""
    fresh: int
    """Rows that are newer than the base."""
    tombstones: int
    """Rows of the base that are no more."""
    background: str = field(default="")
    """What is being built, with its progress; empty where nothing is."""
    live_recall: float = nan
    """The share that live searches found lately, of those that were repeated exactly; not a number where none was."""
