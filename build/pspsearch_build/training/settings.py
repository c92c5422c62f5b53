"""The settings of a training run: one TOML file, read as a whole before anything starts."""

import json
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec

from pspsearch_build.data.augmentation import Augmentation
from pspsearch_build.errors import BuildError
from pspsearch_build.network.spec import NetworkSpec
from pspsearch_build.training.losses import LossName, LossOptions


class Precision(StrEnum):
    """The trunk's precision; the head, the losses and the weights are always FP32."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    """Only on a GPU; the losses are scaled."""


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file. Raises ValueError if a number is out of range, which `read_settings` makes a BuildError."""

    least: ClassVar[dict[str, float]] = {}
    """The bound of each bounded number, which the number must reach, or exceed if it is in `above`."""
    above: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        for name, bound in self.least.items():
            value = getattr(self, name)
            fits, words = (value > bound, "above") if name in self.above else (value >= bound, "at least")
            if not fits:  # NaN does not fit, either
                raise ValueError(f"{name} is {value}, and must be {words} {bound:g}")


class StartSettings(_Table, frozen=True, kw_only=True):
    """The network that a run begins with: a checkpoint, or a new network with a backbone's weights or random ones."""

    checkpoint: str = ""
    """A whole network that was trained before; the run then uses its spec."""
    weights: str = ""
    """The backbone's weights: a file, or `download`."""
    pictures: int = 2048
    """How many of the sources' pictures give the first statistics and the first projection."""
    least = {"pictures": 0}


class SourceSettings(_Table, frozen=True, kw_only=True):
    """Pictures to train on, from which a `Source` is made."""

    name: str
    """The name that losses and the distillation use."""
    pictures: str
    """`DIR` or `FILE.csv[@SPLIT]`; a folder of any kind if the pictures are not labelled."""
    labelled: bool = True
    weight: float = 1.0
    """Its share of every batch, relative to the weights of the other sources."""
    classes: Literal["all", "odd", "even"] = "all"
    """All classes, or every other one by name; the rest then serves an evaluation on unseen classes."""
    least = {"weight": 0}
    above = frozenset({"weight"})


class ValidationSettings(_Table, frozen=True, kw_only=True):
    """Pictures that show when the network is best; never use those of a test."""

    name: str
    queries: str
    """`DIR` or `FILE.csv[@SPLIT]`."""
    gallery: str = ""
    """Like `queries`; if empty, every query searches the other queries."""
    classes: Literal["all", "odd", "even"] = "all"
    """All classes of queries and gallery, or every other one by name."""


class LossSettings(_Table, frozen=True, kw_only=True):
    """One loss; several are added."""

    name: LossName
    weight: float = 1.0
    on: tuple[str, ...] = ()
    """The sources whose pictures the loss sees; all if empty."""
    options: LossOptions = LossOptions()
    least = {"weight": 0}
    above = frozenset({"weight"})


class DistillationSettings(_Table, frozen=True, kw_only=True):
    """Distillation, which keeps what a frozen teacher knows."""

    weight: float = 10.0
    teacher: str = "start"
    """`start`, the network as the run begins; or as for `evaluate`, `checkpoint:FILE`, `average:WEIGHTS` or
    `gem:WEIGHTS`, the last two for an input of 256x256 px, cropped.
    """
    on: tuple[str, ...] = ()
    """The sources whose pictures the distillation sees; all if empty."""
    least = {"weight": 0}
    above = frozenset({"weight"})


class SegmentationSettings(_Table, frozen=True, kw_only=True):
    """Learns what each pixel shows beside the descriptor, as PSPNet did; `data/masks.py` describes the masks."""

    weight: float = 0.5
    auxiliary: float = 0.4
    """The weight of the segmentation loss on the backbone's earlier map, relative to `weight`."""
    least = {"weight": 0, "auxiliary": 0}
    above = frozenset({"weight"})


class OptimiserSettings(_Table, frozen=True, kw_only=True):
    """AdamW under a cosine schedule."""

    learning_rate: float = 1e-3
    """The highest rate of everything after the backbone."""
    backbone_learning_rate: float = 1e-4
    classes_learning_rate: float = 1e-2
    """The highest rate of the losses' own parameters."""
    warm_up_steps: int = 100
    """How many steps the rates take to rise from 0."""
    head_steps: int = 50
    """How many steps the backbone stays still at first."""
    penalty: Literal["l2", "l1"] = "l2"
    """How weights decay: `l2` in proportion, `l1` all by the same amount, which makes the small ones 0."""
    decay: float = 1e-4
    clip: float = 5.0
    """The largest gradient norm; longer gradients are scaled down to it."""
    average: float = 0.995
    """The share that the exponential moving average keeps in each step; 0 for no average."""
    frozen_blocks: int = 0
    """How many first blocks of the backbone are never trained; their maps are the largest."""
    train_statistics: bool = False
    """Whether the backbone's BatchNorm follows the batches; weights that came without statistics do not survive it."""
    least = {
        "learning_rate": 0, "backbone_learning_rate": 0, "classes_learning_rate": 0, "warm_up_steps": 0,
        "head_steps": 0, "decay": 0, "clip": 0, "average": 0, "frozen_blocks": 0,
    }  # fmt: skip
    above = frozenset({"learning_rate", "clip"})


class TrainingSettings(_Table, frozen=True, kw_only=True):
    """A whole run."""

    source: tuple[SourceSettings, ...]
    loss: tuple[LossSettings, ...] = ()
    distillation: DistillationSettings | None = None
    segmentation: SegmentationSettings | None = None
    """Needs a network with segmentation classes."""
    validation: tuple[ValidationSettings, ...] = ()
    floor: str = ""
    """A describer, as for `evaluate`, whose figures the best network must reach in every validation; if empty, the
    start.
    """
    may_lose: float = 0.005
    """How far below the floor a figure may fall, because a few hundred queries are no more exact."""
    blends: tuple[float, ...] = (0.25, 0.5, 0.75)
    """Shares of the way from the start to the last network; the networks there are validated at the end, too."""
    start: StartSettings = StartSettings()
    network: dict[str, Any] = {}
    """Fields of NetworkSpec; empty if the run starts from a checkpoint."""
    optimiser: OptimiserSettings = OptimiserSettings()
    augmentation: Augmentation = Augmentation()

    steps: int
    """How many steps the schedule has; with 0 the run makes only the start."""
    until: int = 0
    """The step at which the run ends, before the rates have fallen; 0 for the last step."""
    batch_size: int = 48
    views_per_class: int = 2
    """How many pictures of one class come together in a batch."""
    accumulate: int = 1
    """How many batches one step learns from."""
    precision: Precision = Precision.BF16
    device: str = "cpu"
    """`cpu` or `cuda`."""
    workers: int = 2
    """How many processes make batches."""
    seed: int = 0
    validate_every: int = 200
    """How many steps lie between validations; each also writes a checkpoint."""
    patience: int = 0
    """How many validations without a better network end the run; 0 for no limit."""
    least = {
        "steps": 0, "until": 0, "batch_size": 2, "views_per_class": 1, "accumulate": 1, "workers": 0,
        "validate_every": 1, "patience": 0, "seed": 0, "may_lose": 0,
    }  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [one.name for one in self.source]
        if len(set(names)) < len(names):
            raise ValueError("two sources have the same name")
        teachers = (self.distillation,) if self.distillation else ()
        if not self.loss and not teachers and not self.segmentation:
            raise ValueError("there is nothing to learn: neither a loss, nor a distillation, nor a segmentation")
        for name in (name for one in (*self.loss, *teachers) for name in one.on):
            if name not in names:
                raise ValueError(f"{name!r} is none of the sources: {', '.join(names)}")
        if self.until > self.steps:
            raise ValueError(f"until is {self.until}, and must be at most steps, which are {self.steps}")
        if not all(0 < share < 1 for share in self.blends):
            raise ValueError(f"blends {list(self.blends)} hold a share that does not lie between 0 and 1")
        if self.network and self.start.checkpoint:
            raise ValueError("a checkpoint to start from has its own network: leave out the table `network`")
        if self.start.checkpoint and self.start.weights:
            raise ValueError("start either from a checkpoint or from weights of the backbone")

    @property
    def last_step(self) -> int:
        """The step at which the run ends."""
        return self.until or self.steps

    @property
    def spec(self) -> NetworkSpec:
        """The spec of a new network. Raises BuildError if there is no such network."""
        return NetworkSpec.from_json(json.dumps(self.network))


def read_settings(path: Path) -> TrainingSettings:
    """Reads a TOML file; its paths are relative to its folder. BuildError says in one sentence what is wrong."""
    try:
        written = tomllib.loads(path.read_text(encoding="utf-8"))
        settings = msgspec.convert(written, TrainingSettings)
        _ = settings.spec
    except OSError as error:
        raise BuildError(f"{path} cannot be read: {error.strerror}") from error
    except (msgspec.ValidationError, ValueError, BuildError) as error:
        raise BuildError(f"{path} is no training run: {error}") from error
    return _place(settings, path.parent)


def _place(settings: TrainingSettings, folder: Path) -> TrainingSettings:
    """The settings with all paths made relative to the folder."""

    def place(path: str, *words: str) -> str:
        return path if not path or path in words else str(folder / path)

    replace = msgspec.structs.replace
    distillation = settings.distillation
    return replace(
        settings,
        start=replace(
            settings.start,
            checkpoint=place(settings.start.checkpoint),
            weights=place(settings.start.weights, "download"),
        ),
        source=tuple(replace(one, pictures=place(one.pictures)) for one in settings.source),
        floor=_place_describer(settings.floor, folder),
        validation=tuple(
            replace(one, queries=place(one.queries), gallery=place(one.gallery)) for one in settings.validation
        ),
        distillation=distillation and replace(distillation, teacher=_place_describer(distillation.teacher, folder)),
    )


def _place_describer(spelling: str, folder: Path) -> str:
    kind, colon, where = spelling.partition(":")
    return f"{kind}:{folder / where}" if colon and kind != "server" else spelling
