"""Queries and options, checked as they are built, and their answers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pspsearch.domain import Area, CellPair, Generation
from pspsearch.errors import InvalidRequest, PspsearchError
from pspsearch.filters import Filter
from pspsearch.images.box import Box

MAX_LIMIT = 1000
MAX_DEPTH = 10_000
"""How far down the ranking a call may look."""
MAX_APART = 1000
"""The most hits that may be compared with one another, to group them or to fold near-duplicates."""
MAX_EXPANSION = 50
"""The most hits that may widen a query."""
MAX_RERANK = 300
"""The most rows that are ordered by the neighbours that they share; the work is the square of their number."""
POOL = 5
"""Hits that are to be unlike one another are chosen among this many times as many."""
MAX_PATH = 1024
"""The most characters in the path of the group attribute."""
MAX_QUERIES = 256
MAX_BATCH_DEPTH = 100_000
"""How far down their rankings all queries of a batch together may look."""
MAX_EXAMPLES = 64


@dataclass(frozen=True, slots=True)
class ImageQuery:
    """Find what looks like this image."""

    image: bytes
    box: Box | None = None
    """The part of the image that is meant; None for all of it."""


@dataclass(frozen=True, slots=True)
class ItemQuery:
    """Find what looks like this item, but not the item itself."""

    id: str


@dataclass(frozen=True, slots=True)
class DescriptorQuery:
    """Find what is near this descriptor."""

    values: NDArray[np.float32]
    fingerprint: str
    """The fingerprint of the descriptor's space."""


Query = ImageQuery | ItemQuery | DescriptorQuery


@dataclass(frozen=True, slots=True)
class Options:
    """Which hits to return, and how much of each. Raises InvalidRequest for values that make no sense."""

    limit: int = 10
    offset: int = 0
    where: Filter | None = None
    min_score: float | None = None
    group_by: str = ""
    """The path of the attribute to group by; empty for no groups."""
    group_size: int = 1
    fold_above: float | None = None
    """A hit that scores at least this with a better hit is folded into it; None folds nothing."""
    expand: int = 0
    """How many of the nearest rows join the query, which is then searched for again."""
    expand_above: float | None = None
    """Only rows with at least this score join the query; None sets no bound."""
    rerank: int = 0
    """How many of the nearest rows are ordered by the neighbours that they share with the query, and not by score."""
    diversity: float = 0.0
    """How much being unlike better hits counts, from 0 to 1, against being like the query."""
    attributes: bool = False
    images: bool = False
    descriptors: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= MAX_LIMIT:
            raise InvalidRequest(f"limit must be 1 to {MAX_LIMIT}, not {self.limit}")
        if self.offset < 0 or self.offset + self.limit > MAX_DEPTH:
            raise InvalidRequest(f"offset must be 0 to {MAX_DEPTH} less the limit, not {self.offset}")
        if self.diversity and (self.offset or self.limit * POOL > MAX_APART):
            raise InvalidRequest(f"with diversity, offset must be 0 and limit at most {MAX_APART // POOL}")
        if self.sets_apart and self.depth > MAX_APART:
            raise InvalidRequest(
                f"with group_by, fold_above or rerank, offset and limit together are at most {MAX_APART}, "
                f"not {self.depth}"
            )
        if not 0 <= self.expand <= MAX_EXPANSION:
            raise InvalidRequest(f"expand must be 0 to {MAX_EXPANSION}, not {self.expand}")
        if not 0 <= self.rerank <= MAX_RERANK:
            raise InvalidRequest(f"rerank must be 0 to {MAX_RERANK}, not {self.rerank}")
        if not 0 <= self.diversity <= 1:  # written so that NaN fails it
            raise InvalidRequest(f"diversity must be 0 to 1, not {self.diversity}")
        if len(self.group_by) > MAX_PATH:
            raise InvalidRequest(f"group_by has at most {MAX_PATH} characters, not {len(self.group_by)}")
        if self.group_size < 1:
            raise InvalidRequest(f"group_size must be at least 1, not {self.group_size}")
        for name, bound in (
            ("min_score", self.min_score),
            ("fold_above", self.fold_above),
            ("expand_above", self.expand_above),
        ):
            if bound is not None and not -1 <= bound <= 1:  # written so that NaN fails it
                raise InvalidRequest(f"{name} is a score, from -1 to 1, not {bound}")

    @property
    def depth(self) -> int:
        """How many hits the ranking must have to fill the page."""
        return self.limit * POOL if self.diversity else self.offset + self.limit

    @property
    def reach(self) -> int:
        """How many rows must be found at least."""
        return max(self.depth, self.rerank, self.expand)

    @property
    def sets_apart(self) -> bool:
        """Whether more than its score decides whether, or where, a row becomes a hit."""
        return bool(self.group_by or self.rerank or self.diversity) or self.fold_above is not None

    @property
    def compares(self) -> bool:
        """Whether the found rows must be compared with one another."""
        return bool(self.rerank or self.diversity) or self.fold_above is not None


class Hit(NamedTuple):
    """One item that was found. It is a tuple because a busy server makes very many."""

    id: str
    score: float
    attributes: str = ""
    """A JSON object; empty unless asked for."""
    image: bytes = b""
    """Empty unless asked for and kept."""
    descriptor: NDArray[np.float32] | None = None
    """None unless asked for."""
    group: str = ""
    """The value of the group attribute as JSON; empty if there is none."""
    duplicates: tuple[str, ...] = ()
    """The ids folded into this hit, best first."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The hits of one query."""

    hits: list[Hit]
    generation: Generation


@dataclass(frozen=True, slots=True)
class BatchAnswer:
    """The hits of several queries, all of one generation, with an error in place of each query that failed."""

    hits: Sequence[list[Hit] | PspsearchError]
    generation: Generation


@dataclass(frozen=True, slots=True)
class Comparison:
    """How alike two things are."""

    score: float
    generation: Generation


@dataclass(frozen=True, slots=True)
class Shares:
    """How a score is shared among the cells of one picture."""

    shares: NDArray[np.float64]
    """Rows x columns. A negative share speaks against the score."""
    remainder: float
    """The score less the sum of the shares."""
    seen: Area
    """What the cells cover: the part of the picture that the model saw."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why an item has its score."""

    score: float
    query: Shares | None
    """None if the query has no picture."""
    item: Shares | None
    """None if the item's picture was not kept."""
    pairs: Sequence[CellPair]
    """First those that give most to the score; none unless both have a picture."""
    generation: Generation


@dataclass(frozen=True, slots=True)
class Description:
    """An image's descriptor."""

    descriptor: NDArray[np.float32]
    generation: Generation = field(repr=False)
