"""What the clients take and return, in plain Python."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from pspsearch.domain import GenerationState, ImageInfo, IndexKind, Outcome, RolloutStage
from pspsearch.errors import PspsearchError

Attributes = Mapping[str, Any]
"""A JSON object."""


@dataclass(frozen=True, slots=True, eq=False)
class Descriptor:
    """A point in a vector space."""

    values: NDArray[np.float32] = field(repr=False)
    """Of unit length where a server made it; scaled to it on arrival where you did."""
    fingerprint: str
    """Names the space; descriptors of different spaces are never compared."""


@dataclass(frozen=True, slots=True)
class ItemId:
    """An item, named by its id."""

    id: str


Query = Path | bytes | ItemId | Descriptor
"""What to look for: an image's file, its bytes, an item that is there, or a point."""

Source = Path | bytes | Descriptor
"""Where an item's descriptor comes from."""


class SearchOptions(TypedDict, total=False):
    """Which hits to return, and how much of each. None stands for what is not given."""

    limit: int | None
    """How many hits, 1 to 1000; 10 where it is not given."""
    offset: int
    """How many of the best hits to leave out; with the limit at most 10000, or 1000 with `group_by` or `fold_above`."""
    filter: str | None
    """Which items may be hits: `category = "shoes" AND price < 50`."""
    min_score: float | None
    group_by: str | None
    """Of items with the same value of this attribute, only the best `group_size` are hits."""
    group_size: int
    fold_above: float | None
    """Hits that score at least this with a better hit become its `duplicates`."""
    return_attributes: bool
    return_images: bool
    return_descriptors: bool


@dataclass(frozen=True, slots=True, eq=False)
class ItemInput:
    """An item to put in."""

    id: str
    source: Source | None = None
    """With none, only the attributes of an item that is there change."""
    attributes: Attributes | None = None
    """None leaves those of an item that is there."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Which model version an answer comes from."""

    model: str
    model_version: int
    fingerprint: str
    """The vector space of every descriptor and score in the answer."""
    generation: int
    """0 where no collection was searched."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the server's time went."""

    decode_ms: float
    queue_ms: float
    inference_ms: float
    search_ms: float
    total_ms: float


@dataclass(frozen=True, slots=True)
class Hit:
    """One item that was found."""

    id: str
    score: float
    """The cosine of its descriptor and the query's, from -1 to 1."""
    attributes: Attributes | None
    """None unless asked for, as are the image and the descriptor."""
    image: bytes | None = field(repr=False)
    """None also where it is not kept."""
    descriptor: Descriptor | None
    group: Any
    """The value of `group_by`; None where there is none."""
    duplicates: tuple[str, ...]
    """Ids of near-duplicates that were folded into this hit, best first."""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The answer to one query."""

    hits: tuple[Hit, ...]
    """Best first."""
    origin: Origin
    timing: Timing


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The answers to several queries, all of one generation."""

    results: tuple[tuple[Hit, ...] | PspsearchError, ...]
    """In the order of the queries; an error stands where one could not be answered."""
    origin: Origin
    timing: Timing


@dataclass(frozen=True, slots=True)
class Comparison:
    """How alike two things are."""

    score: float
    same: bool | None
    """Whether the score reaches the threshold; None where none was given."""
    origin: Origin
    timing: Timing


@dataclass(frozen=True, slots=True)
class Description:
    """An image's descriptor."""

    descriptor: Descriptor
    origin: Origin
    timing: Timing


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that can be found."""

    id: str
    attributes: Attributes
    image: ImageInfo | None
    """None where the item was put in as a descriptor."""
    created: datetime
    updated: datetime
    sequence: int
    """Of its last change."""
    descriptor: Descriptor | None = None
    """None unless asked for."""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What became of one item: it is on disk and found by the next search, or the error says why not."""

    id: str
    outcome: Outcome | None
    """None where it was refused."""
    sequence: int
    error: PspsearchError | None = None


@dataclass(frozen=True, slots=True)
class CollectionState:
    """How a collection stands."""

    origin: Origin
    item_count: int
    sequence: int
    """Of the last change that searches see."""
    index: str
    """What the planner chose, in words."""
    measured_recall: float
    index_bytes: int
    fresh_count: int
    tombstone_count: int
    background: str
    """What is being built, with its progress; empty where nothing is."""


@dataclass(frozen=True, slots=True)
class Collection:
    """A named set of items under one descriptor model."""

    name: str
    model: str
    keep_images: bool
    index_kind: IndexKind
    target_recall: float
    created: datetime
    state: CollectionState
    follows: bool
    """Whether it is taken to new versions of its model by itself."""


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version of a model, as the repository has it."""

    model: str
    version: int
    reason: str
    """Why no collection can be taken to it; empty where one can."""
    fingerprint: str
    dimension: int
    collections: tuple[str, ...]
    """That it answers for."""


@dataclass(frozen=True, slots=True)
class Check:
    """One figure of the gate that a new version must pass."""

    name: str
    value: float
    bound: float
    passed: bool
    words: str


@dataclass(frozen=True, slots=True)
class Trial:
    """What has come of live searches that a new version took part in."""

    answered: int
    """Calls that it answered."""
    passed_on: int
    """Calls that it could not answer, so that the version before did."""
    mirrored: int
    """Calls that both answered, to be compared."""
    failed: int
    """Of those that it was to answer for comparison."""
    overlap: float
    """The share of the hits before that it finds, too."""
    ms: float
    active_ms: float
    """With the version before."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """A collection on its way to another model version."""

    collection: str
    origin: Origin
    """What is new."""
    stage: RolloutStage
    described: int
    total: int
    per_second: float
    eta_s: float
    """0 where it cannot be told."""
    missing: int
    """Items that cannot be described, because their images are not kept."""
    checks: tuple[Check, ...]
    reason: str
    """Why it failed, or what it waits for."""
    canary: float
    """The share of callers that it answers when it is ready."""
    shadow: float
    """The share of other searches that it is compared with when it is ready."""
    trial: Trial


@dataclass(frozen=True, slots=True)
class Generation:
    """A collection under one model version, of now or of earlier."""

    origin: Origin
    state: GenerationState
    created: datetime
    changed: datetime
    checks: tuple[Check, ...]
    reason: str
    """Why it failed."""


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """How the server stands."""

    version: str
    """Of pspsearch."""
    serving: bool
    """False while it warms up or drains."""
    uptime_s: float
    triton: str
    models: tuple[Origin, ...]
    """The versions of the default model that Triton serves."""
    collections: tuple[Collection, ...]
    memory_bytes: int
    catalog_bytes: int
    requests_in_flight: int
