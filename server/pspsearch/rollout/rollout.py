"""One rollout as it stands at a moment, and as it is kept."""

import json
from dataclasses import asdict, dataclass
from typing import Any, Self

from pspsearch.domain import Generation, GenerationRecord, RolloutStage
from pspsearch.errors import InvalidRequest
from pspsearch.live.trial import Tried

_UNTRIED = Tried()


@dataclass(frozen=True, slots=True)
class RolloutOptions:
    """What the operator decides."""

    share: float = 0.5
    """Of the time that describing may take of the model; it takes less where live searches suffer."""
    automatic: bool = False
    """Whether it is promoted as soon as its checks have passed."""
    drop_missing: bool = False
    """Whether it may be promoted although items have no descriptor in it, because their images are not kept."""
    canary: float = 0.0
    """Of all callers, the share that it answers as soon as it is ready."""
    shadow: float = 0.0
    """Of the other calls, the share that it is compared with as soon as it is ready."""

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise InvalidRequest(f"share must be above 0 and at most 1, not {self.share}")
        for name, share in (("canary", self.canary), ("shadow", self.shadow)):
            if not 0 <= share <= 1:
                raise InvalidRequest(f"{name} must be 0 to 1, not {share}")


@dataclass(frozen=True, slots=True)
class Check:
    """One figure of the gate."""

    name: str
    value: float
    bound: float
    passed: bool
    words: str
    """What was measured, for the operator."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """A moment of it."""

    collection: str
    generation: Generation
    """The new one."""
    options: RolloutOptions
    stage: RolloutStage = RolloutStage.DESCRIBING
    described: int = 0
    """Of `total` items, since the start or the restart."""
    total: int = 0
    per_second: float = 0.0
    missing: int = 0
    """Items that cannot be described, because their images are not kept."""
    checks: tuple[Check, ...] = ()
    tried: Tried = _UNTRIED
    """With live searches, since it was last said with how many."""
    reason: str = ""
    """Why it failed."""

    @property
    def eta_s(self) -> float:
        """Until all items are described; 0 where that is done, or cannot be told yet."""
        return (self.total - self.described) / self.per_second if self.per_second else 0.0

    @property
    def ended(self) -> bool:
        """Whether nothing becomes of it any more."""
        return self.stage in (RolloutStage.PROMOTED, RolloutStage.FAILED)

    @property
    def words(self) -> str:
        """For whoever looks at the collection."""
        words = f"rollout to {self.generation.model}/{self.generation.version}: {self.stage}"
        if self.stage is RolloutStage.DESCRIBING and self.total:
            words += f" {100 * self.described / self.total:.0f} %, {self.per_second:.0f}/s, {self.eta_s:.0f} s left"
        return f"{words}; {self.reason}" if self.reason else words

    @property
    def details(self) -> str:
        """What is kept of it with its generation."""
        kept = {
            "options": asdict(self.options),
            "stage": self.stage,
            "missing": self.missing,
            "checks": [asdict(check) for check in self.checks],
            "tried": asdict(self.tried),
            "reason": self.reason,
        }
        return json.dumps(kept)

    @classmethod
    def read(cls, collection: str, record: GenerationRecord) -> Self | None:
        """As it was kept last; None where the generation did not come from a rollout."""
        kept: dict[str, Any] = json.loads(record.details)
        if "stage" not in kept:
            return None
        return cls(
            collection,
            record.generation,
            RolloutOptions(**kept["options"]),
            RolloutStage(kept["stage"]),
            missing=kept["missing"],
            checks=tuple(Check(**check) for check in kept["checks"]),
            tried=Tried(**kept.get("tried", {})),
            reason=kept["reason"],
        )
