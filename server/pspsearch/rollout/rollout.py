"""One rollout at one moment, and how it is stored with its generation."""

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
    """The share of the time in which items are described. It falls when live searches become slow."""
    automatic: bool = False
    """Whether it is promoted as soon as its checks have passed."""
    drop_missing: bool = False
    """Whether it may be promoted without the items that cannot be described from a kept image."""
    canary: float = 0.0
    """The share of all callers that it answers as soon as it is ready."""
    shadow: float = 0.0
    """The share of the other calls that are mirrored to it as soon as it is ready."""

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
    """The state of a rollout at one moment."""

    collection: str
    generation: Generation
    """The new generation."""
    options: RolloutOptions
    stage: RolloutStage = RolloutStage.DESCRIBING
    described: int = 0
    """How many of `total` items are described, since the start or the restart."""
    total: int = 0
    per_second: float = 0.0
    missing: int = 0
    """Items that cannot be described, because their images are not kept or cannot be read."""
    checks: tuple[Check, ...] = ()
    tried: Tried = _UNTRIED
    """The figures with live searches, since their shares were last set."""
    reason: str = ""
    """Why it failed, or what it waits for."""

    @property
    def eta_s(self) -> float:
        """Seconds until all items are described; 0 if that is done, or cannot be estimated yet."""
        return (self.total - self.described) / self.per_second if self.per_second else 0.0

    @property
    def ended(self) -> bool:
        """Whether it was promoted or has failed."""
        return self.stage in (RolloutStage.PROMOTED, RolloutStage.FAILED)

    @property
    def words(self) -> str:
        """The state in words, for those who look at the collection."""
        words = f"rollout to {self.generation.model}/{self.generation.version}: {self.stage}"
        if self.stage is RolloutStage.DESCRIBING and self.total:
            words += f" {100 * self.described / self.total:.0f} %, {self.per_second:.0f}/s, {self.eta_s:.0f} s left"
        return f"{words}; {self.reason}" if self.reason else words

    @property
    def details(self) -> str:
        """The rollout as JSON, to be stored with its generation."""
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
        """Reads the rollout as it was last stored. Returns None if the generation did not come from a rollout."""
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
