"""The types that the clients take and return."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from pspsearch.domain import Area, CellPair, GenerationState, ImageInfo, IndexKind, Outcome, RolloutStage
from pspsearch.errors import PspsearchError

Attributes = Mapping[str, Any]
"""A JSON object."""


@dataclass(frozen=True, slots=True, eq=False)
class Descriptor:
    """A descriptor, with the space that it belongs to."""

    values: NDArray[np.float32] = field(repr=False)
    """Of unit length if a server made it. The server scales your own to unit length."""
    fingerprint: str
    """The name of the space. Descriptors of different spaces are never compared."""


@dataclass(frozen=True, slots=True)
class ItemId:
    """An item, named by its id."""

    id: str


@dataclass(frozen=True, slots=True)
class Region:
    """A part of an image, as it is shown: after the rotation that the file asks for."""

    image: Path | bytes = field(repr=False)
    box: tuple[float, float, float, float]
    """Left, top, right and bottom, as fractions of the width and the height from 0 to 1."""
    in_px: bool = False
    """Whether the box is in pixels instead."""


Query = Path | bytes | Region | ItemId | Descriptor
"""What to search for: an image's file, its bytes, a part of an image, an existing item, or a descriptor."""

Source = Path | bytes | Descriptor
"""What an item's descriptor is made from: an image's file, its bytes, or a ready descriptor."""


class SearchOptions(TypedDict, total=False):
    """Which hits to return, and how much of each. None means the same as leaving an option out."""

    limit: int | None
    """How many hits, 1 to 1000; 10 by default."""
    offset: int
    """How many of the best hits to skip.

    With the limit at most 10000, or 1000 with `group_by`, `fold_above` or `rerank`; none with `diversity`.
    """
    filter: str | None
    """Which items may be hits, such as `category = "shoes" AND price < 50`."""
    min_score: float | None
    group_by: str | None
    """Of items with the same value of this attribute, only the best `group_size` are hits."""
    group_size: int
    fold_above: float | None
    """Hits that score at least this with a better hit become its `duplicates`."""
    expand: int
    """How many of the nearest hits widen the query, 0 to 50, before it is searched for again."""
    expand_above: float | None
    """Only hits with at least this score widen the query."""
    rerank: int
    """How many of the nearest hits, 0 to 300, are ordered by the neighbours that they share with the query."""
    diversity: float
    """How much it counts that a hit is unlike better hits, from 0 to 1, against its score."""
    return_attributes: bool
    return_images: bool
    return_descriptors: bool


@dataclass(frozen=True, slots=True, eq=False)
class ItemInput:
    """An item to put in, or changes to an existing one."""

    id: str
    source: Source | None = None
    """None changes only the attributes of an existing item."""
    attributes: Attributes | None = None
    """None keeps the attributes of an existing item."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Which model version an answer comes from."""

    model: str
    model_version: int
    fingerprint: str
    """The space of every descriptor and score in the answer."""
    generation: int
    """The generation that was searched; 0 if none was."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How the server spent its time on a call."""

    decode_ms: float
    queue_ms: float
    inference_ms: float
    search_ms: float
    total_ms: float


@dataclass(frozen=True, slots=True)
class Hit:
    """One item that a search found."""

    id: str
    score: float
    """The cosine of its descriptor and the query's, from -1 to 1."""
    attributes: Attributes | None
    """None unless requested; so are the image and the descriptor."""
    image: bytes | None = field(repr=False)
    """Also None if the image was not kept."""
    descriptor: Descriptor | None
    group: Any
    """The item's value of the `group_by` attribute; None if it has none."""
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
    """The hits of each query, in order, or the error of a query that failed."""
    origin: Origin
    timing: Timing


@dataclass(frozen=True, slots=True)
class Comparison:
    """How similar two images, items or descriptors are."""

    score: float
    same: bool | None
    """Whether the score reaches the threshold; None if none was given."""
    origin: Origin
    timing: Timing


@dataclass(frozen=True, slots=True, eq=False)
class Shares:
    """How a score is shared among the cells of one picture."""

    shares: NDArray[np.float32] = field(repr=False)
    """The shares of the cells, rows x columns. A negative share speaks against the hit."""
    remainder: float
    """The score less the sum of the shares: what the cells do not carry."""
    seen: Area
    """The part of the picture that the model saw, which the cells cover. It may reach beyond the picture."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why an item has its score."""

    score: float
    """The cosine of the two descriptors, as a search gives it."""
    query: Shares | None
    """None if the query has no picture."""
    item: Shares | None
    """None if the item's picture was not kept."""
    pairs: tuple[CellPair, ...]
    """First those that give most to the score; none unless both have a picture."""
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
    """None if the item was put in as a descriptor."""
    created: datetime
    updated: datetime
    sequence: int
    """The sequence number of the item's last change."""
    descriptor: Descriptor | None = None
    """None unless requested."""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The result of one item: it is on disk and the next search finds it, or the error says why not."""

    id: str
    outcome: Outcome | None
    """None if the item was refused."""
    sequence: int
    error: PspsearchError | None = None


@dataclass(frozen=True, slots=True)
class CollectionState:
    """The present state of a collection."""

    origin: Origin
    item_count: int
    sequence: int
    """The sequence number of the last change that searches see."""
    index: str
    """The kind of index that the planner chose, in words."""
    measured_recall: float
    index_bytes: int
    fresh_count: int
    tombstone_count: int
    background: str
    """What is being built, with its progress; "" if nothing is."""


@dataclass(frozen=True, slots=True)
class Collection:
    """A named set of items, described by one model."""

    name: str
    model: str
    keep_images: bool
    index_kind: IndexKind
    target_recall: float
    created: datetime
    state: CollectionState
    follows: bool
    """Whether the collection moves to new versions of its model automatically."""


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version of a model in the repository."""

    model: str
    version: int
    reason: str
    """Why no collection can use it; "" if one can."""
    fingerprint: str
    dimension: int
    collections: tuple[str, ...]
    """The collections that it answers for."""


@dataclass(frozen=True, slots=True)
class Check:
    """One of the checks that a new version must pass."""

    name: str
    value: float
    bound: float
    passed: bool
    words: str


@dataclass(frozen=True, slots=True)
class Trial:
    """The results of live searches that a new version took part in."""

    answered: int
    """How many calls the new version answered."""
    passed_on: int
    """How many calls it could not answer, so that the active version did."""
    mirrored: int
    """How many calls both versions answered, for comparison."""
    failed: int
    """How many calls it failed to answer for comparison."""
    overlap: float
    """The share of the active version's hits that it finds too."""
    ms: float
    active_ms: float
    """The milliseconds of the active version."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """The move of a collection to another model version."""

    collection: str
    origin: Origin
    """The new version."""
    stage: RolloutStage
    described: int
    total: int
    per_second: float
    eta_s: float
    """0 if it is unknown."""
    missing: int
    """How many items cannot be described, because their images were not kept."""
    checks: tuple[Check, ...]
    reason: str
    """Why it failed, or what it waits for."""
    canary: float
    """The share of callers that the new version answers once it is ready."""
    shadow: float
    """The share of other searches on which it is compared once it is ready."""
    trial: Trial


@dataclass(frozen=True, slots=True)
class Generation:
    """A collection under one model version, present or past."""

    origin: Origin
    state: GenerationState
    created: datetime
    changed: datetime
    checks: tuple[Check, ...]
    reason: str
    """Why it failed."""


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """The state of the server."""

    version: str
    """The version of pspsearch."""
    serving: bool
    """False while the server starts or drains."""
    uptime_s: float
    triton: str
    models: tuple[Origin, ...]
    """The versions of the default model that Triton serves."""
    collections: tuple[Collection, ...]
    memory_bytes: int
    catalog_bytes: int
    requests_in_flight: int
